// A quantized model: what a .qbin holds, checked and ready for the engine. quant/export.cc writes
// it; QbinFile and QbinWriter (qbin.h) know only containers.
//
// Layout. Graphs: "main", that from images to the outputs; a detector has those of
// models/detect/detector_graphs.h, and "detector.*" in its metadata. Metadata: "model.arch",
// "preprocess.*", "labels" with one string per class, "recipe.*" how it was made.
// Tensors, for every Linear U of a graph:
//   U.weight        kPacked [N, K], signed codes q' = q - 2^(b-1)
//   U.weight_scale  kF32 [N]   s_w
//   U.weight_zero   kI8 [N]    z_w' = z_w - 2^(b-1)
//   U.weight_sum    kI16 or kI32 [N]   sum over K of q'
//   U.bias          kF16 or kF32 [N], where it has one
// or, where the codes are kCoded,
//   U.weight        kCoded [N, K], with z_w' = 0
//   U.weight_scale  kF32 [1]   s_w of all columns
//   U.bias          as above
// and every other parameter under its own name as kF32 or kF16; levels of a Quantize as kU8.
#pragma once

#include <map>
#include <memory>
#include <optional>

#include "kernels/kernels.h"
#include "models/graph/detector_info.h"
#include "models/graph/model_info.h"
#include "models/graph/quantizers.h"
#include "runtime/files/qbin.h"

namespace vitrun {

// A line of panels, whose kernels want them aligned.
struct alignas(64) PanelLine {
  uint8_t bytes[64];
};

// Arrays are padded with zeros to a multiple of kColumns. `panels` points into the file, or to
// `decoded`, which nodes that share a coded weight share.
struct QuantLinear {
  int n = 0, k = 0, bits = 0;
  const uint8_t* panels = nullptr;
  std::shared_ptr<const std::vector<PanelLine>> decoded;
  int64_t stored_bytes = 0;  // of the codes in the file
  std::vector<float> scale, bias;
  std::vector<int32_t> zero, sum;
};

// A Quantize node and a matrix product that reads it, through a Window if it is the map of a
// convolution.
struct QuantizedOperand {
  int quantize, consumer, operand;
};

// A graph whose matrix products all read Quantize nodes, and its parameters.
class QuantGraph {
 public:
  // Takes the graph of that name from the file, judges it and reads what it needs.
  QuantGraph(QbinFile& file, const std::string& name);

  Graph graph;                           // with the shapes of its parameters
  std::shared_ptr<const Shapes> shapes;  // for the default sizes of its inputs
  std::string where;                     // the file and the graph's name in it, for messages

  const QuantLinear& linear(int node) const { return linears_.at(node); }       // a Linear
  const CodeParams& quantizer(int node) const { return quantizers_.at(node); }  // a Quantize
  // Parameters of the nodes that are not Linear, in float.
  const Weights& params() const { return params_; }
  // The operands, in node order of their consumers.
  std::vector<QuantizedOperand> operands() const;
  // Returns what the panels of coded weights take in memory, beside the file.
  int64_t decoded_bytes() const;

 private:
  void check_products() const;
  void read_linear(const QbinFile& file, int node, int depth);
  void read_packed(const QbinFile& file, const QbinTensor& weight, QuantLinear& linear);
  void read_coded(const QbinFile& file, const QbinTensor& weight, QuantLinear& linear);
  void add_param(const QbinFile& file, const std::string& name, const Node& reader);

  std::map<int, QuantLinear> linears_;
  std::map<std::string, int> coded_;  // weight -> the first Linear that has it
  std::map<int, CodeParams> quantizers_;
  Weights params_;
  int64_t columns_ = 0;  // of all Linears
};

// Immutable after construction; may be shared by threads.
class QuantModel {
 public:
  // Checks that the file is a whole model with usable numbers; fails naming the file and the part
  // at fault.
  explicit QuantModel(QbinFile file);

  const QbinFile& file() const { return file_; }
  const ModelInfo& info() const { return info_; }
  const QuantGraph& graph() const { return graph(main_); }  // that of images
  const QuantGraph& graph(const std::string& name) const;   // fails if there is none
  const std::map<std::string, QuantGraph>& graphs() const { return graphs_; }
  bool has_graph(const std::string& name) const { return graphs_.contains(name); }
  const std::optional<DetectorInfo>& detector() const { return detector_; }  // none: no detector

 private:
  QbinFile file_;
  ModelInfo info_;
  std::string main_ = "main";
  std::optional<DetectorInfo> detector_;
  std::map<std::string, QuantGraph> graphs_;
};

// The weights of a graph in float, those of Linears as s_w (q - z_w): with them the float engine
// computes what the integer engine does, but for float rounding.
Weights dequantize_weights(const QuantGraph& graph);

}  // namespace vitrun
