// Finds the steps that must wait for all threads.
#include "runtime/integer/plan.h"

namespace vitrun {
namespace {

// Steps with equal keys give each thread the same rows, of their inputs and of their result; a
// negative key says which rows a thread gets only to the step itself.
int partition(const Step& s) {
  const bool by_rows = s.op != Op::kAttention && s.op != Op::kConstantRows && !s.by_columns &&
                       !(s.op == Op::kPlain && s.across) && s.out_first == 0;
  return by_rows ? s.rows : -1 - static_cast<int>(s.op);
}

std::vector<int> touched_by(const Step& s) {
  std::vector<int> values = s.in;
  for (int v : {s.residual, s.out})
    if (v >= 0) values.push_back(v);
  return values;
}

}  // namespace

// A step waits for the others if a value it touches was touched since the last wait by a step that
// gave the rows to other threads, or by any if it reads other rows than its own. Constant rows are
// nobody else's; they only have to be there before they are read.
void schedule(Plan& plan) {
  std::vector<std::vector<int>> keys(plan.values.size());  // of the steps that touched each value
  for (Step& s : plan.steps) {
    const int key = partition(s);
    if (s.op != Op::kConstantRows)
      for (int v : touched_by(s))
        for (int other : at(keys, v)) s.sync |= other != key || key < 0 || s.across;
    if (s.sync)
      for (auto& k : keys) k.clear();
    for (int v : touched_by(s))
      if (!at(plan.values, v).constant) at(keys, v).push_back(key);
  }
}

}  // namespace vitrun
