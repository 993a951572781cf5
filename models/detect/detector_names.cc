#include "models/detect/detector_names.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <string_view>

#include "models/base/error.h"

namespace vitrun {
namespace {

using Words = std::vector<std::string>;

Words split(const std::string& name) {
  Words words(1);
  for (char c : name) {
    if (c == '.')
      words.emplace_back();
    else
      words.back() += c;
  }
  return words;
}

std::string join(const Words& words) {
  std::string name;
  for (const std::string& w : words) name += (name.empty() ? "" : ".") + w;
  return name;
}

bool is_number(const std::string& word) {
  return !word.empty() && word.size() <= 3 &&
         std::ranges::all_of(word, [](unsigned char c) { return std::isdigit(c); });
}

// A part of a name and what takes its place; `*` is one word, which stays.
struct Rule {
  const char* from;
  const char* to;
};

constexpr Rule kRules[] = {
    {"backbone.patch_embed.projection", "patch_embed.proj"},
    {"backbone.patch_embed", "patch_embed"},
    {"backbone.stages.*.blocks.*.attn.w_msa", "layers.*.blocks.*.attn"},
    {"backbone.stages.*.blocks.*.ffn.layers.0.0", "layers.*.blocks.*.mlp.fc1"},
    {"backbone.stages.*.blocks.*.ffn.layers.1", "layers.*.blocks.*.mlp.fc2"},
    {"backbone.stages", "layers"},
    {"backbone.layers", "layers"},
    {"backbone.norm0", "norm0"},
    {"backbone.norm1", "norm1"},
    {"backbone.norm2", "norm2"},
    {"backbone.norm3", "norm3"},
    {"neck.lateral_convs.*.conv", "neck.lateral.*"},
    {"neck.fpn_convs.*.conv", "neck.fpn.*"},
    {"rpn_head.rpn_conv", "rpn.conv"},
    {"rpn_head.rpn_cls", "rpn.cls"},
    {"rpn_head.rpn_reg", "rpn.reg"},
    {"roi_head.bbox_head.shared_convs.*.conv", "box.0.convs.*"},
    {"roi_head.bbox_head.shared_convs.*.bn", "box.0.convs.*.bn"},
    {"roi_head.bbox_head.shared_fcs.*", "box.0.fcs.*"},
    {"roi_head.bbox_head.fc_cls", "box.0.cls"},
    {"roi_head.bbox_head.fc_reg", "box.0.reg"},
    {"roi_head.bbox_head.*.shared_convs.*.conv", "box.*.convs.*"},
    {"roi_head.bbox_head.*.shared_convs.*.bn", "box.*.convs.*.bn"},
    {"roi_head.bbox_head.*.shared_fcs.*", "box.*.fcs.*"},
    {"roi_head.bbox_head.*.fc_cls", "box.*.cls"},
    {"roi_head.bbox_head.*.fc_reg", "box.*.reg"},
    {"roi_head.mask_head.convs.*.conv", "mask.0.convs.*"},
    {"roi_head.mask_head.upsample", "mask.0.upsample"},
    {"roi_head.mask_head.conv_logits", "mask.0.logits"},
    {"roi_head.mask_head.*.convs.*.conv", "mask.*.convs.*"},
    {"roi_head.mask_head.*.upsample", "mask.*.upsample"},
    {"roi_head.mask_head.*.conv_logits", "mask.*.logits"},
};

// The name with the rule's part replaced; empty if the rule does not fit.
std::string replaced(const Words& name, const Rule& rule) {
  const Words from = split(rule.from);
  if (name.size() <= from.size()) return "";
  Words kept;
  for (size_t i = 0; i < from.size(); i++) {
    if (from[i] == "*" ? !is_number(name[i]) : name[i] != from[i]) return "";
    if (from[i] == "*") kept.push_back(name[i]);
  }
  Words to = split(rule.to);
  size_t next = 0;
  for (std::string& word : to)
    if (word == "*") word = kept.at(next++);
  to.insert(to.end(), name.begin() + static_cast<std::ptrdiff_t>(from.size()), name.end());
  return join(to);
}

// A merging of patches ends a stage there, and begins the next here.
std::string moved_downsample(const std::string& name) {
  Words words = split(name);
  if (words.size() > 2 && words[0] == "layers" && words[2] == "downsample" && is_number(words[1]))
    words[1] = std::to_string(std::stoi(words[1]) + 1);
  return join(words);
}

bool is_buffer(const std::string& name) {
  return name.ends_with("relative_position_index") || name.ends_with("num_batches_tracked") ||
         name.ends_with("attn_mask");
}

}  // namespace

std::map<std::string, std::string> detector_names(const std::vector<std::string>& names,
                                                  const std::string& where) {
  std::map<std::string, std::string> out;
  for (const std::string& name : names) {
    if (is_buffer(name)) continue;
    std::string found;
    for (const Rule& rule : kRules)
      if (found.empty()) found = replaced(split(name), rule);
    if (found.empty())
      fail(where, ": tensor '", name,
           "' belongs to no Mask R-CNN or Cascade Mask R-CNN with a Swin that vitrun knows");
    const auto [entry, is_new] = out.emplace(moved_downsample(found), name);
    if (!is_new) fail(where, ": tensors '", entry->second, "' and '", name, "' have one meaning");
  }
  return out;
}

bool has_unfold_order(const std::vector<std::string>& names) {
  return std::ranges::any_of(
      names, [](const std::string& n) { return n.starts_with("backbone.stages."); });
}

}  // namespace vitrun
