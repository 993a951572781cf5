// The benchmark program: one function per subcommand. Results on stdout, as a table or as JSON
// lines.
#pragma once

#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace vitrun {

class QuantModel;

struct BenchOptions {
  std::vector<std::string> isas;  // names; empty: every one this CPU supports
  int repetitions = 15;           // interleaved over everything compared
  std::vector<std::string> archs = {"deit_small_patch16_224"};  // model: random weights
  std::vector<int> threads = {1, 2};                            // model
  std::vector<std::string> models;                              // model: .qbin files instead
  int batch = 1;                                                // model: images a run
  bool profile = false;                                         // model: time by kind of step
  bool json = false;
  bool peers = false;  // chain: other libraries beside ours
};

// GEMM of each ISA x bit width x the shapes of ViT-Ti/S/B and Swin-T, checked against scalar first.
int bench_gemm(const BenchOptions& options);
// The row-wise kernels of each ISA at DeiT-S sizes.
int bench_ops(const BenchOptions& options);
// Whole models with random weights: f32 and several widths, side by side.
int bench_model(const BenchOptions& options);
// A detector's graphs on random inputs of the sizes that they have for one image.
void bench_detector(const BenchOptions& options, const QuantModel& model);

// The 48 Linears of DeiT-S in a row (chain.h).
int bench_chain(const BenchOptions& options);

// One page about the machine: CPU, clock, memory, ISAs, then DeiT-T, DeiT-S and Swin-T at all
// widths.
int bench_page(const BenchOptions& options);

// Picoseconds a multiply-add at every pair of widths: the tables of vitquant --bits target.
int bench_costs(const BenchOptions& options);

// The tables of options.isas, or every supported one but scalar, which is slow and serves as the
// check.
std::vector<const Kernels*> selected_isas(const BenchOptions& options);

// The CPU as the system names it.
std::string cpu_name();

// The value below which a part p of them lies, 0 the least; of at least one.
double percentile(std::vector<double> values, double p);

// Seconds on the steady clock.
double now_seconds();

// Nanoseconds for a cache line to go to the other of two threads and back, now. Hosts move virtual
// cores about: two-thread times belong with this.
double round_trip_ns();
constexpr double kFarNs = 200;  // beyond, cores count as far

// The time that a user of `vitrun` pays in a fresh process, file in the page cache: from its start
// to the answer printed, the least of five, and its peak memory.
struct FirstAnswer {
  double milliseconds = 0, peak_mb = 0;
};
// `vitrun` beside this program on `qbin` with the images of a .npy; zeros if there is none, or none
// that this machine runs without an emulator.
FirstAnswer first_answer(const std::string& qbin, const std::string& images, int threads);

// A multiply-add loop. Where there is an int8 dot product all three are that instruction's.
enum class PeakKind {
  kShort,  // pairs of u8 x s8 summed in int16: what the fewest bits can reach
  kExact,  // the same widened to int32 each time: 15 bits of weight and activation together
  kWide,   // both widened to int16 first: 8 x 8 bits
};
// The speed that an ISA's fastest register-only loop reaches now, in operations (two per
// multiply-add) a second; 0 if not known. The clock wanders: compare with what is timed in the same
// moment.
double sample_peak(const std::string& isa, PeakKind kind);

}  // namespace vitrun
