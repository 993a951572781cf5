// Places the values in memory.
#include <algorithm>

#include "models/base/error.h"
#include "runtime/integer/plan.h"

namespace vitrun {
namespace {

constexpr int64_t kAlign = 64;
constexpr int64_t kMaxArena = int64_t{1} << 40;
constexpr int64_t kMaxRows = INT32_MAX;  // of all images: a step counts them in int

int64_t aligned(int64_t bytes) {
  return (bytes + kAlign - 1) / kAlign * kAlign;
}

struct Life {
  int first = -1, release = 0;  // steps; the bytes are free from the first wait after the last use
};

std::vector<Life> lifetimes(const Plan& plan) {
  const int steps = count_of(plan.steps);
  std::vector<int> next_sync(static_cast<size_t>(steps) + 1, steps);
  for (int s = steps; s-- > 0;)
    at(next_sync, s) = at(plan.steps, s).sync ? s : at(next_sync, s + 1);
  std::vector<Life> lives(plan.values.size());
  for (int s = 0; s < steps; s++) {
    const Step& step = at(plan.steps, s);
    std::vector<int> values = step.in;
    values.insert(values.end(), {step.residual, step.out});
    for (int v : values) {
      if (v < 0) continue;
      Life& life = at(lives, v);
      if (life.first < 0) life.first = s;
      life.release = at(next_sync, s + 1);
    }
  }
  for (const PlannedOutput& o : plan.outputs) at(lives, o.value).release = steps + 1;
  return lives;
}

}  // namespace

// First fit: each value takes the lowest bytes that no living value holds.
void place_values(int batch, Plan& plan) {
  const std::vector<Life> lives = lifetimes(plan);
  struct Block {
    int64_t begin, end;
    int release;
  };
  std::vector<Block> blocks;                              // of the living, in order of their bytes
  std::vector<std::vector<int>> born(plan.steps.size());  // values by their first step
  for (int v = 0; v < count_of(plan.values); v++)
    if (at(lives, v).first >= 0 && !at(plan.values, v).constant)
      at(born, at(lives, v).first).push_back(v);
  for (int s = 0; s < count_of(plan.steps); s++) {
    if (!at(born, s).empty()) std::erase_if(blocks, [&](const Block& b) { return b.release <= s; });
    for (int v : at(born, s)) {
      Value& value = at(plan.values, v);
      const int64_t rows = int64_t{value.rows} * batch;
      if (rows > kMaxRows || rows * value.stride > kMaxArena / 8)
        fail("a value of ", rows, " rows is too large");
      const int64_t data = aligned(rows * value.stride * (value.codes ? 1 : 4));
      const int64_t column = value.codes ? aligned(rows * 4) : 0;  // a number for each row
      const int64_t bytes = data + column * (value.by_row ? 3 : 1);
      int64_t begin = 0;
      auto behind = blocks.begin();
      for (; behind != blocks.end() && behind->begin < begin + bytes; behind++)
        begin = std::max(begin, behind->end);
      value.offset = begin;
      value.sums = begin + data;
      value.scales = value.sums + column;
      value.zeros = value.scales + column;
      blocks.insert(behind, {begin, begin + bytes, at(lives, v).release});
      plan.arena_bytes = std::max(plan.arena_bytes, begin + bytes);
      if (plan.arena_bytes > kMaxArena) fail("the buffers take more than ", kMaxArena, " bytes");
    }
  }
}

}  // namespace vitrun
