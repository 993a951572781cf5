#include "models/checkpoints/names.h"

#include <algorithm>
#include <optional>
#include <span>
#include <string_view>

#include "models/base/error.h"
#include "models/base/index.h"
#include "models/base/listed.h"
#include "models/checkpoints/foreign.h"

namespace vitrun {
namespace {

constexpr int kWhole = -1, kJoined = 3;

// One line for each kind of tensor. '#' stands for a block's or stage's number, '*' for "weight" or
// "bias", and '^', in `to`, for the number plus one. `part` is the place of a tensor among the
// three that are joined.
struct Rule {
  const char* from;
  const char* to;
  int part = kWhole;
};

constexpr Rule kVitRules[] = {
    // timm
    {"cls_token", "cls_token"},
    {"dist_token", "dist_token"},
    {"pos_embed", "pos_embed"},
    {"patch_embed.proj.*", "patch_embed.proj.*"},
    {"blocks.#.norm1.*", "blocks.#.norm1.*"},
    {"blocks.#.attn.qkv.*", "blocks.#.attn.qkv.*"},
    {"blocks.#.attn.proj.*", "blocks.#.attn.proj.*"},
    {"blocks.#.ls1.gamma", "blocks.#.ls1.gamma"},
    {"blocks.#.norm2.*", "blocks.#.norm2.*"},
    {"blocks.#.mlp.fc1.*", "blocks.#.mlp.fc1.*"},
    {"blocks.#.mlp.fc2.*", "blocks.#.mlp.fc2.*"},
    {"blocks.#.ls2.gamma", "blocks.#.ls2.gamma"},
    {"norm.*", "norm.*"},
    {"head.*", "head.*"},
    {"head_dist.*", "head_dist.*"},
    // Facebook's DeiT-III
    {"blocks.#.gamma_1", "blocks.#.ls1.gamma"},
    {"blocks.#.gamma_2", "blocks.#.ls2.gamma"},
    // transformers
    {"embeddings.cls_token", "cls_token"},
    {"embeddings.distillation_token", "dist_token"},
    {"embeddings.position_embeddings", "pos_embed"},
    {"embeddings.patch_embeddings.projection.*", "patch_embed.proj.*"},
    {"encoder.layer.#.layernorm_before.*", "blocks.#.norm1.*"},
    {"encoder.layer.#.attention.attention.query.*", "blocks.#.attn.qkv.*", 0},
    {"encoder.layer.#.attention.attention.key.*", "blocks.#.attn.qkv.*", 1},
    {"encoder.layer.#.attention.attention.value.*", "blocks.#.attn.qkv.*", 2},
    {"encoder.layer.#.attention.output.dense.*", "blocks.#.attn.proj.*"},
    {"encoder.layer.#.layernorm_after.*", "blocks.#.norm2.*"},
    {"encoder.layer.#.intermediate.dense.*", "blocks.#.mlp.fc1.*"},
    {"encoder.layer.#.output.dense.*", "blocks.#.mlp.fc2.*"},
    {"layernorm.*", "norm.*"},
    {"classifier.*", "head.*"},
    {"cls_classifier.*", "head.*"},
    {"distillation_classifier.*", "head_dist.*"},
};

constexpr Rule kSwinRules[] = {
    // timm
    {"patch_embed.proj.*", "patch_embed.proj.*"},
    {"patch_embed.norm.*", "patch_embed.norm.*"},
    {"absolute_pos_embed", "absolute_pos_embed"},
    {"layers.#.blocks.#.norm1.*", "layers.#.blocks.#.norm1.*"},
    {"layers.#.blocks.#.attn.qkv.*", "layers.#.blocks.#.attn.qkv.*"},
    {"layers.#.blocks.#.attn.relative_position_bias_table",
     "layers.#.blocks.#.attn.relative_position_bias_table"},
    {"layers.#.blocks.#.attn.proj.*", "layers.#.blocks.#.attn.proj.*"},
    {"layers.#.blocks.#.norm2.*", "layers.#.blocks.#.norm2.*"},
    {"layers.#.blocks.#.mlp.fc1.*", "layers.#.blocks.#.mlp.fc1.*"},
    {"layers.#.blocks.#.mlp.fc2.*", "layers.#.blocks.#.mlp.fc2.*"},
    {"norm.*", "norm.*"},
    {"head.fc.*", "head.fc.*"},
    // old timm, Microsoft
    {"head.*", "head.fc.*"},
    // transformers
    {"embeddings.patch_embeddings.projection.*", "patch_embed.proj.*"},
    {"embeddings.norm.*", "patch_embed.norm.*"},
    {"embeddings.position_embeddings", "absolute_pos_embed"},
    {"encoder.layers.#.blocks.#.layernorm_before.*", "layers.#.blocks.#.norm1.*"},
    {"encoder.layers.#.blocks.#.attention.self.query.*", "layers.#.blocks.#.attn.qkv.*", 0},
    {"encoder.layers.#.blocks.#.attention.self.key.*", "layers.#.blocks.#.attn.qkv.*", 1},
    {"encoder.layers.#.blocks.#.attention.self.value.*", "layers.#.blocks.#.attn.qkv.*", 2},
    {"encoder.layers.#.blocks.#.attention.self.relative_position_bias_table",
     "layers.#.blocks.#.attn.relative_position_bias_table"},
    {"encoder.layers.#.blocks.#.attention.output.dense.*", "layers.#.blocks.#.attn.proj.*"},
    {"encoder.layers.#.blocks.#.layernorm_after.*", "layers.#.blocks.#.norm2.*"},
    {"encoder.layers.#.blocks.#.intermediate.dense.*", "layers.#.blocks.#.mlp.fc1.*"},
    {"encoder.layers.#.blocks.#.output.dense.*", "layers.#.blocks.#.mlp.fc2.*"},
    {"encoder.layers.#.downsample.norm.*", "layers.^.downsample.norm.*"},
    {"encoder.layers.#.downsample.reduction.*", "layers.^.downsample.reduction.*"},
    {"layernorm.*", "norm.*"},
    {"classifier.*", "head.fc.*"},
};

// SwinV2 has these beside Swin's. k has no bias, so that q's and v's stay apart.
constexpr Rule kSwinV2Rules[] = {
    {"layers.#.blocks.#.attn.q_bias", "layers.#.blocks.#.attn.q_bias"},
    {"layers.#.blocks.#.attn.v_bias", "layers.#.blocks.#.attn.v_bias"},
    {"layers.#.blocks.#.attn.logit_scale", "layers.#.blocks.#.attn.logit_scale"},
    {"layers.#.blocks.#.attn.cpb_mlp.0.*", "layers.#.blocks.#.attn.cpb_mlp.0.*"},
    {"layers.#.blocks.#.attn.cpb_mlp.2.*", "layers.#.blocks.#.attn.cpb_mlp.2.*"},
    // transformers
    {"encoder.layers.#.blocks.#.attention.self.query.bias", "layers.#.blocks.#.attn.q_bias"},
    {"encoder.layers.#.blocks.#.attention.self.value.bias", "layers.#.blocks.#.attn.v_bias"},
    {"encoder.layers.#.blocks.#.attention.self.logit_scale", "layers.#.blocks.#.attn.logit_scale"},
    {"encoder.layers.#.blocks.#.attention.self.continuous_position_bias_mlp.0.*",
     "layers.#.blocks.#.attn.cpb_mlp.0.*"},
    {"encoder.layers.#.blocks.#.attention.self.continuous_position_bias_mlp.2.*",
     "layers.#.blocks.#.attn.cpb_mlp.2.*"},
};

// timm's Swin downsamples where a stage starts. Microsoft's, and timm's before 0.9, downsamples
// where a stage ends.
constexpr Rule kDownsampleFirst[] = {
    {"layers.#.downsample.norm.*", "layers.#.downsample.norm.*"},
    {"layers.#.downsample.reduction.*", "layers.#.downsample.reduction.*"},
};
constexpr Rule kDownsampleLast[] = {
    {"layers.#.downsample.norm.*", "layers.^.downsample.norm.*"},
    {"layers.#.downsample.reduction.*", "layers.^.downsample.reduction.*"},
};

// Prefixes that wrappers around a whole model add. "encoder." and the families' names are parts of
// transformers' own names too; so a name is known by as much of it as a rule fits.
constexpr const char* kPrefixes[] = {"module.",   "model.", "_orig_mod.", "timm_model.",
                                     "backbone.", "net.",   "encoder.",   "base_model.model.",
                                     "vit.",      "deit.",  "swin.",      "swinv2."};

// Tensors that are recomputed from the configuration, unused in classification, or counters.
constexpr const char* kIgnored[] = {
    "relative_position_index", "relative_coords_table", "attn_mask",  "position_ids",
    "num_batches_tracked",     "pooler.dense.weight",   "mask_token", "pooler.dense.bias"};

// Takes one wrapper's prefix off, and returns whether there was one.
bool strip_prefix(std::string_view& name) {
  for (std::string_view prefix : kPrefixes)
    if (name.starts_with(prefix)) {
      name.remove_prefix(prefix.size());
      return true;
    }
  return false;
}

bool is_ignored(std::string_view name) {
  return std::any_of(std::begin(kIgnored), std::end(kIgnored), [&](std::string_view suffix) {
    if (!name.ends_with(suffix)) return false;
    return name.size() == suffix.size() || name[name.size() - suffix.size() - 1] == '.';
  });
}

std::vector<std::string_view> split(std::string_view text) {
  std::vector<std::string_view> parts;
  for (size_t dot; (dot = text.find('.')) != text.npos; text.remove_prefix(dot + 1))
    parts.push_back(text.substr(0, dot));
  parts.push_back(text);
  return parts;
}

// Whether text is a number of at most three digits, so that adding one cannot overflow.
bool is_number(std::string_view text) {
  return !text.empty() && text.size() <= 3 && text.find_first_not_of("0123456789") == text.npos &&
         (text == "0" || text[0] != '0');
}

bool matches(std::string_view pattern, std::string_view part) {
  if (pattern == "#") return is_number(part);
  if (pattern == "*") return part == "weight" || part == "bias";
  return pattern == part;
}

// Returns the timm name if `name` fits the rule, else "".
std::string apply(const Rule& rule, const std::vector<std::string_view>& name) {
  const std::vector<std::string_view> pattern = split(rule.from);
  if (!std::equal(pattern.begin(), pattern.end(), name.begin(), name.end(), matches)) return "";
  std::string to;
  size_t next = 0;  // index of the name's part that the next placeholder stands for
  for (std::string_view part : split(rule.to)) {
    if (!to.empty()) to += '.';
    const bool placeholder = part == "#" || part == "^" || part == "*";
    if (placeholder) {
      while (pattern[next] != "#" && pattern[next] != "*") next++;
      const std::string text(name[next++]);
      to += part == "^" ? std::to_string(std::stoi(text) + 1) : text;
    } else {
      to += part;
    }
  }
  return to;
}

using RuleLists = std::vector<std::span<const Rule>>;

RuleLists rules_for(const std::vector<std::string>& names) {
  bool swin = false, v2 = false, downsample_last = false;
  for (std::string_view name : names) do {
      swin = swin || name.starts_with("layers.0.blocks.") ||
             name.starts_with("encoder.layers.0.blocks.");
      v2 = v2 || name.ends_with(".logit_scale");
      downsample_last = downsample_last || name.starts_with("layers.0.downsample.");
    } while (strip_prefix(name));
  if (!swin) return {kVitRules};
  RuleLists rules = {kSwinRules, downsample_last ? std::span<const Rule>(kDownsampleLast)
                                                 : std::span<const Rule>(kDownsampleFirst)};
  if (v2) rules.insert(rules.begin(), kSwinV2Rules);
  return rules;
}

struct Target {
  std::string name;  // "" if no rule fits
  int part = kWhole;
  size_t prefix = 0;  // how much of the tensor's name wrappers added
};

Target find_target(const RuleLists& lists, std::string_view name) {
  const size_t whole = name.size();
  do {
    const std::vector<std::string_view> parts = split(name);
    for (std::span<const Rule> rules : lists)
      for (const Rule& rule : rules) {
        std::string to = apply(rule, parts);
        if (!to.empty()) return {std::move(to), rule.part, whole - name.size()};
      }
  } while (strip_prefix(name));
  return {};
}

// Returns the shortest front of a name, up to a dot, without which a rule fits; "" if there is
// none.
std::string foreign_prefix(const RuleLists& lists, std::string_view name) {
  for (size_t dot = name.find('.'); dot != name.npos; dot = name.find('.', dot + 1))
    if (!find_target(lists, name.substr(dot + 1)).name.empty())
      return std::string(name.substr(0, dot + 1));
  return "";
}

constexpr size_t kShown = 4;  // tensors named in a message

// `known` is the wrappers' prefix of the tensors that rules fit, if there are any.
[[noreturn]] void fail_unknown(const std::vector<std::string>& unknown, const RuleLists& rules,
                               const std::optional<std::string>& known, const std::string& where) {
  if (const std::string what = foreign_tensors(unknown); !what.empty())
    fail(where, ": this ", what, ", which vitrun does not run (tensors ", listed(unknown, kShown),
         ")");
  const std::string prefix = foreign_prefix(rules, unknown.front());
  if (!prefix.empty() && known)
    fail(where, ": two models, under '", *known, "' and '", prefix, "': keep one of them");
  if (!prefix.empty())
    fail(where, ": the tensors' names begin with '", prefix, "', which vitrun does not know; ",
         "rename them without it");
  fail(where, ": not supported: tensors of no ViT, DeiT or Swin: ", listed(unknown, kShown));
}

// Two tensors have one meaning: mostly those of two models under two prefixes.
[[noreturn]] void fail_twice(const RuleLists& rules, const std::string& a, const std::string& b,
                             const std::string& where) {
  const Target first = find_target(rules, a), second = find_target(rules, b);
  const std::string one = a.substr(0, first.prefix), other = b.substr(0, second.prefix);
  fail(where, ": ", one == other ? "" : cat("two models, under '", one, "' and '", other, "': "),
       "'", a, "' and '", b, "' are both ", first.name);
}

// A fused tensor has one source; otherwise query, key and value must all be there.
void check_complete(const NameMap& map, const std::string& where) {
  for (const auto& [name, sources] : map)
    for (const std::string& source : sources)
      if (source.empty())
        fail(where, ": '", name, "' needs query, key and value; one of them is missing");
}

void check_heads(const NameMap& map, const std::string& where) {
  if (map.contains("layers.0.blocks.0.norm1.weight")) return;  // Swin may have none
  if (!map.contains("head.weight"))
    fail(where, ": no classifier: this is a base model without a head (no 'head.weight')");
  // transformers' DeiTForImageClassification carries the token and has no head for it.
  const bool ignored = map.contains("dist_token") && !map.contains("head_dist.weight") &&
                       map.at("head.weight").front().ends_with("classifier.weight") &&
                       !map.at("head.weight").front().ends_with("cls_classifier.weight");
  if (!ignored && map.contains("dist_token") != map.contains("head_dist.weight"))
    fail(where, ": not supported: a distillation token without a head of its own, or the reverse");
}

}  // namespace

NameMap timm_names(const std::vector<std::string>& names, const std::string& where) {
  const RuleLists rules = rules_for(names);
  NameMap map;
  std::vector<std::string> unknown;
  std::optional<std::string> prefix;  // of the blocks
  for (const std::string& name : names) {
    if (is_ignored(name)) continue;
    const Target target = find_target(rules, name);
    if (target.name.empty()) {
      unknown.push_back(name);
      continue;
    }
    if (target.name.starts_with("blocks.") || target.name.starts_with("layers.")) {
      const std::string own = name.substr(0, target.prefix);
      if (prefix && own != *prefix)
        fail(where, ": two models, under '", *prefix, "' and '", own, "': keep one of them");
      prefix = own;
    }
    std::vector<std::string>& sources = map[target.name];
    sources.resize(std::max(sources.size(), size_t{target.part == kWhole ? 1u : kJoined}));
    std::string& slot = at(sources, std::max(target.part, 0));
    if (!slot.empty()) fail_twice(rules, slot, name, where);
    slot = name;
  }
  if (!unknown.empty()) fail_unknown(unknown, rules, prefix, where);
  check_complete(map, where);
  check_heads(map, where);
  return map;
}

}  // namespace vitrun
