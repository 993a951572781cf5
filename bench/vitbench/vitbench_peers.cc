// Runs the chain of vitbench_chain.cc in other libraries. VITRUN_PEERS is defined if oneDNN was
// found.
#include "bench/vitbench/chain.h"
#include "models/base/error.h"

#if defined(VITRUN_PEERS)
#include <cblas.h>

#include <dnnl.hpp>
#include <memory>

extern "C" void omp_set_num_threads(int);
#endif

namespace vitrun {

#if defined(VITRUN_PEERS)
namespace {

using dnnl::memory;
using Type = memory::data_type;

// One Linear in oneDNN: its activations, its weights in the layout that oneDNN prefers, bias and
// output.
class DnnlLinear {
 public:
  DnnlLinear(const dnnl::engine& engine, const ChainLinear& shape, Type source, Type weight) {
    const memory::dim m = kChainTokens, k = shape.k, n = shape.n;
    const auto plain = memory::format_tag::ab;
    const memory::desc src({m, k}, source, plain), dst({m, n}, Type::f32, plain);
    const memory::desc bias({1, n}, Type::f32, plain);
    dnnl::primitive_attr attr;
    if (source == Type::u8) attr.set_output_scales(2, std::vector<float>(size_t(n), 0.01f));
    const memory::desc any({k, n}, weight, memory::format_tag::any);
    const dnnl::matmul::primitive_desc plan({src, any, bias, dst}, attr, engine);
    product_ = dnnl::matmul(plan);
    arguments_ = {{DNNL_ARG_SRC, filled(src, engine)},
                  {DNNL_ARG_WEIGHTS, filled(plan.weights_desc(), engine)},
                  {DNNL_ARG_BIAS, filled(bias, engine)},
                  {DNNL_ARG_DST, filled(dst, engine)}};
  }

  void run(dnnl::stream& stream) { product_.execute(stream, arguments_); }

 private:
  // Fills a tensor with small positive codes, or with floats near 1.5.
  static memory filled(const memory::desc& desc, const dnnl::engine& engine) {
    memory result(desc, engine);
    auto* bytes = static_cast<uint8_t*>(result.get_data_handle());
    const bool floats = desc.data_type() == Type::f32;
    for (size_t i = 0; i < desc.get_size(); i++) {
      bytes[i] = static_cast<uint8_t>(floats ? (i % 4 == 3 ? 0x3F : 0xC0) : i * 37 % 100);
    }
    return result;
  }

  dnnl::matmul product_;
  std::unordered_map<int, memory> arguments_;
};

Contender dnnl_chain(const char* name, const dnnl::engine& engine, Type source, Type weight) {
  auto linears = std::make_shared<std::vector<DnnlLinear>>();
  for (int block = 0; block < kChainBlocks; block++) {
    for (const ChainLinear& shape : kChainBlock) {
      linears->emplace_back(engine, shape, source, weight);
    }
  }
  auto stream = std::make_shared<dnnl::stream>(engine);
  return {name, [linears, stream] {
            for (DnnlLinear& linear : *linears) linear.run(*stream);
            stream->wait();
          }};
}

Contender sgemm_chain() {
  struct Buffers {
    std::vector<float> x = std::vector<float>(kChainTokens * 1536, 0.5f), y = x;
    std::vector<std::vector<float>> weights;
  };
  auto buffers = std::make_shared<Buffers>();
  for (int block = 0; block < kChainBlocks; block++) {
    for (const ChainLinear& s : kChainBlock) {
      buffers->weights.emplace_back(static_cast<size_t>(s.k) * static_cast<size_t>(s.n), 0.1f);
    }
  }
  return {"OpenBLAS sgemm", [buffers] {
            for (size_t i = 0; i < buffers->weights.size(); i++) {
              const ChainLinear& s = kChainBlock[i % std::size(kChainBlock)];
              cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, kChainTokens, s.n, s.k, 1.0f,
                          buffers->x.data(), s.k, buffers->weights[i].data(), s.k, 0.0f,
                          buffers->y.data(), s.n);
            }
          }};
}

}  // namespace

std::vector<Contender> peer_chains(bool avx2_only) {
  omp_set_num_threads(1);
  openblas_set_num_threads(1);
  if (avx2_only) dnnl::set_max_cpu_isa(dnnl::cpu_isa::avx2);
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return {dnnl_chain("oneDNN u8s8->f32", engine, Type::u8, Type::s8),
          dnnl_chain("oneDNN f32", engine, Type::f32, Type::f32), sgemm_chain()};
}

#else

std::vector<Contender> peer_chains(bool) {
  fail("--peers: built without oneDNN (libdnnl-dev)");
}

#endif

}  // namespace vitrun
