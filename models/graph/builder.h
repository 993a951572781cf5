// Builders of graphs share this: it appends nodes and declares their parameters.
#pragma once

#include <string>

#include "models/graph/shapes.h"

namespace vitrun {

class GraphBuilder {
 public:
  // Appends a node of any kind, of `cols` columns, and returns its index; so do the functions
  // below, in which `x` and `y` are earlier nodes.
  int node(NodeKind kind, const std::string& name, std::vector<int> in, int cols,
           std::map<Attribute, double> attributes = {});
  int image(int channels, int height, int width);
  int map(const std::string& name, int channels, int height, int width);
  // A node whose value is the parameter of the same name.
  int constant(const std::string& name, const Dims& dims);
  // Neighbourhoods of kernel x kernel positions; `order` as Node kWindow says.
  int window(int x, const std::string& name, int kernel, int stride, ElementOrder order,
             int padding = 0, bool ceil = false);
  int unwindow(int x, const std::string& name, int kernel, int stride, int padding = 0,
               bool has_bias = true);
  int linear(int x, const std::string& name, int out_cols, bool has_bias = true);
  int layernorm(int x, const std::string& name, float epsilon);
  int norm(int x, const std::string& name, NormType type, float epsilon, int group = 0);
  // The norm of columns begin to end of x, which are then the value's only ones.
  int norm_columns(int x, const std::string& name, NormType type, float epsilon, int group,
                   int begin, int end);
  int act(int x, const std::string& name, ActType type);
  int mul(int x, int y, const std::string& name);
  int add(int x, int y, const std::string& name, float alpha = 1);
  int concat(const std::vector<int>& xs, const std::string& name, int axis = 0);
  int slice(int x, const std::string& name, int begin, int end, int axis = 0);
  int last_row(int x, const std::string& name);
  int pool(int x, const std::string& name, bool max = false, int begin = 0);
  int pool_windows(int x, const std::string& name, bool max, int kernel, int stride,
                   int padding = 0);
  int resize(int x, const std::string& name, bool bilinear, int height, int width);
  int resize_like(int x, int y, const std::string& name, bool bilinear);
  int rope(int x, int table, const std::string& name, int head_dim, bool interleaved, int begin,
           int end);

  // The columns and rows that an attention takes; window 0: all rows.
  struct Attention {
    int heads = 1, head_dim = 1;
    int query_begin = 0, key_begin = 0, value_begin = 0;
    int window = 0, shift = 0;
    bool pad_first = false;  // padding is shifted with the map, not put behind it
    bool fixed_window = false;
    bool causal = false;
    int bias_entries = 0;  // rows of a table of relative positions in windows; 0: none
    // The map behind a token whose relative positions have a table; 0: none.
    int grid_height = 0, grid_width = 0;
    std::string bias_table = "";  // its name where attentions share it; empty: the attention's own
    int bias = -1;                // a node whose value is added to the scores; -1: none
    float scale = 0;              // of the scores; 0: 1 / sqrt(head_dim)
  };
  // Q K^T, softmax and attn V of the attention module `name`.
  int attention(int q, int k, int v, const std::string& name, const Attention& a);

  void output(const std::string& name, int node) { graph_.outputs.push_back({name, node}); }
  void set_role(int node, Role role) { graph_[node].role = role; }
  void set_unit(int node, const std::string& unit) { graph_[node].unit = unit; }
  void set(int node, Attribute a, double value) { graph_[node].attributes[a] = value; }
  // Nodes from here on belong to this block; -1: to none.
  void set_block(int block) { block_ = block; }

  int cols(int node) const { return at(cols_, node); }
  Graph finish();

 private:
  std::string param(const std::string& name, Dims dims);

  Graph graph_;
  std::vector<int> cols_;  // of the nodes
  int block_ = -1;
};

}  // namespace vitrun
