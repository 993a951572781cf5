// vitbench costs: what a multiply-add costs on this machine at every pair of widths, as vitquant
// --bits target reads it (quant/bits/cost_table.h).
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "bench/vitbench/product.h"
#include "kernels/pack.h"

namespace vitrun {
namespace {

constexpr int kWidthCount = kMaxBits - kMinBits + 1;

struct TimedShape {
  Shape shape;
  Epilogue epilogue;
};

constexpr TimedShape kLinears[] = {
    {{"DeiT-T qkv", 197, 192, 576}, Epilogue::kFloat},
    {{"DeiT-T proj", 197, 192, 192}, Epilogue::kFloat},
    {{"DeiT-T fc1", 197, 192, 768}, Epilogue::kFloat},
    {{"DeiT-T fc2", 197, 768, 192}, Epilogue::kFloat},
    {{"DeiT-S qkv", 197, 384, 1152}, Epilogue::kFloat},
    {{"DeiT-S proj", 197, 384, 384}, Epilogue::kFloat},
    {{"DeiT-S fc1", 197, 384, 1536}, Epilogue::kFloat},
    {{"DeiT-S fc2", 197, 1536, 384}, Epilogue::kFloat},
};
// The products of one head. attn V is a single product of both planes of attn
// (runtime/integer/engine_attention.cc).
constexpr TimedShape kAttention[] = {{{"Q K^T", 197, 64, 197}, Epilogue::kFloat},
                                     {{"attn V", 394, 197, 64}, Epilogue::kInt32}};

// A cost for each [weight bits - kMinBits][activation bits - kMinBits], called a cell.
using Grid = std::vector<std::vector<double>>;

Widths widths_of(int cell, bool attention) {
  const int weight = kMinBits + cell / kWidthCount, activation = kMinBits + cell % kWidthCount;
  return attention ? Widths{kMaxBits, activation, weight} : Widths{weight, activation};
}

// The median cost of an operation in each cell, for one shape on one ISA. The cells take turns.
// Each time is multiplied by the ISA's peak rate, sampled just before, so that the clock cancels
// out; the samples are appended to `peaks`.
std::vector<double> time_shape(const TimedShape& s, bool attention, const Kernels& isa,
                               int repetitions, std::vector<double>& peaks) {
  std::vector<std::unique_ptr<Product>> products;
  for (int cell = 0; cell < kWidthCount * kWidthCount; cell++)
    products.push_back(std::make_unique<Product>(s.shape, widths_of(cell, attention), s.epilogue));
  std::vector<std::vector<double>> seconds(products.size());
  for (int r = 0; r < repetitions; r++)
    for (size_t cell = 0; cell < products.size(); cell++) {
      products[cell]->seconds(isa);  // brings the product into the caches
      const double peak = sample_peak(isa.name, PeakKind::kShort);
      peaks.push_back(peak > 0 ? peak : 1);
      seconds[cell].push_back(products[cell]->seconds(isa) * peaks.back());
    }
  std::vector<double> per_operation;
  for (size_t cell = 0; cell < products.size(); cell++)
    per_operation.push_back(2 * median(seconds[cell]) / products[cell]->operations());
  return per_operation;
}

// The median. For an even number of values it is the mean of the middle two.
double middle(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return (values[(values.size() - 1) / 2] + values[values.size() / 2]) / 2;
}

// The median over the shapes of time_shape(), for each cell.
template <size_t n>
Grid time_grid(const TimedShape (&shapes)[n], bool attention, const Kernels& isa, int repetitions,
               std::vector<double>& peaks) {
  std::vector<std::vector<double>> of_cells(kWidthCount * kWidthCount);
  for (const TimedShape& s : shapes) {
    const std::vector<double> times = time_shape(s, attention, isa, repetitions, peaks);
    for (size_t cell = 0; cell < times.size(); cell++) of_cells[cell].push_back(times[cell]);
  }
  Grid grid(kWidthCount);
  for (size_t cell = 0; cell < of_cells.size(); cell++)
    grid[cell / kWidthCount].push_back(middle(of_cells[cell]));
  return grid;
}

// Divides by the peak rate `clock`, in operations per second, which gives picoseconds; rounds to
// two decimals.
void scale(Grid& grid, double clock) {
  for (std::vector<double>& row : grid)
    for (double& value : row) value = std::round(1e14 * value / clock) / 100;
}

void print_grid(const char* title, const Grid& grid) {
  std::printf("%s\n", title);
  for (int bits = kMinBits; bits <= kMaxBits; bits++)
    std::printf("%s%d", bits == kMinBits ? "      A" : "       A", bits);
  std::printf("\n");
  for (size_t w = 0; w < grid.size(); w++) {
    std::printf("W%zu", w + kMinBits);
    for (double picoseconds : grid[w]) std::printf(" %8.2f", picoseconds);
    std::printf("\n");
  }
}

}  // namespace

int bench_costs(const BenchOptions& options) {
  for (const Kernels* isa : selected_isas(options)) {
    std::vector<double> peaks;
    Grid linears = time_grid(kLinears, false, *isa, options.repetitions, peaks),
         attention = time_grid(kAttention, true, *isa, options.repetitions, peaks);
    for (Grid* grid : {&linears, &attention}) scale(*grid, median(peaks));
    if (options.json) {
      const nlohmann::ordered_json j = {{"target", isa->name},
                                        {"isa", isa->name},
                                        {"cpu", cpu_name()},
                                        {"picoseconds", linears},
                                        {"attention_picoseconds", attention}};
      std::printf("%s\n", j.dump().c_str());
      continue;
    }
    std::printf("%s on %s, picoseconds a multiply-add, one thread, medians of %d\n", isa->name,
                cpu_name().c_str(), options.repetitions);
    print_grid("Linears, by bits of weight and input:", linears);
    print_grid("attention, by bits of K and Q, or of V and the plane:", attention);
  }
  return 0;
}

}  // namespace vitrun
