#include "models/checkpoints/names.h"

#include <algorithm>
#include <span>
#include <string_view>

#include "models/base/error.h"
#include "models/base/index.h"

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

// Prefixes that wrappers around a whole model add.
constexpr const char* kPrefixes[] = {"module.", "model.", "vit.", "deit.", "swin."};

// Tensors that are recomputed from the configuration, unused in classification, or counters.
constexpr const char* kIgnored[] = {
    "relative_position_index", "attn_mask",  "position_ids",     "num_batches_tracked",
    "pooler.dense.weight",     "mask_token", "pooler.dense.bias"};

// A part of a tensor's name that tells which unsupported model a file is of.
struct Reason {
  const char* part;
  const char* text;
};
constexpr Reason kReasons[] = {
    {"reg_token", "register tokens"},
    {"norm_pre.", "a norm before the blocks (CLIP)"},
    {"vision_model.", "CLIP or SigLIP"},
    {"fc_norm.", "mean pooling with a norm of its own"},
    {"attn_pool.", "attention pooling"},
    {"q_norm.", "normalised queries and keys"},
    {"k_norm.", "normalised queries and keys"},
    {"q_bias", "BEiT"},
    {"logit_scale", "Swin V2"},
    {"cpb_mlp", "Swin V2"},
    {"absolute_pos_embed", "absolute positions in Swin"},
    {"position_embeddings", "absolute positions in Swin"},
    {"attns.", "parallel blocks"},
    {"mlp.w12", "SwiGLU"},
    {"mlp.fc1_g", "SwiGLU"},
    {"pre_logits", "a representation layer before the head"},
    {".lora_", "LoRA adapters"},
};

std::string_view strip_prefixes(std::string_view name) {
  bool stripped = true;
  while (stripped) {
    stripped = false;
    for (std::string_view prefix : kPrefixes)
      if (name.starts_with(prefix)) {
        name.remove_prefix(prefix.size());
        stripped = true;
      }
  }
  return name;
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
  bool swin = false, downsample_last = false;
  for (const std::string& full : names) {
    const std::string_view name = strip_prefixes(full);
    swin = swin || name.starts_with("layers.0.blocks.") ||
           name.starts_with("encoder.layers.0.blocks.");
    downsample_last = downsample_last || name.starts_with("layers.0.downsample.");
  }
  if (!swin) return {kVitRules};
  if (downsample_last) return {kSwinRules, kDownsampleLast};
  return {kSwinRules, kDownsampleFirst};
}

struct Target {
  std::string name;  // "" if no rule fits
  int part = kWhole;
};

Target find_target(const RuleLists& lists, std::string_view name) {
  const std::vector<std::string_view> parts = split(name);
  for (std::span<const Rule> rules : lists)
    for (const Rule& rule : rules) {
      std::string to = apply(rule, parts);
      if (!to.empty()) return {std::move(to), rule.part};
    }
  return {};
}

[[noreturn]] void fail_unknown(const std::vector<std::string>& unknown, const std::string& where) {
  constexpr size_t kShown = 4;
  std::string list;
  for (size_t i = 0; i < std::min(kShown, unknown.size()); i++)
    list += (i ? ", '" : "'") + unknown[i] + "'";
  if (unknown.size() > kShown) list += cat(" and ", unknown.size() - kShown, " more");
  for (const Reason& reason : kReasons)
    for (const std::string& name : unknown)
      if (name.find(reason.part) != name.npos)
        fail(where, ": not supported: ", reason.text, " (tensors ", list, ")");
  fail(where, ": not supported: tensors of no ViT, DeiT or Swin: ", list);
}

// A fused tensor has one source; otherwise query, key and value must all be there.
void check_complete(const NameMap& map, const std::string& where) {
  for (const auto& [name, sources] : map)
    for (const std::string& source : sources)
      if (source.empty())
        fail(where, ": '", name, "' needs query, key and value; one of them is missing");
}

void check_heads(const NameMap& map, const std::string& where) {
  const bool swin = map.contains("layers.0.blocks.0.norm1.weight");
  if (!map.contains(swin ? "head.fc.weight" : "head.weight"))
    fail(where, ": no classifier: this is a base model without a head (no '",
         swin ? "head.fc.weight" : "head.weight", "')");
  if (map.contains("dist_token") != map.contains("head_dist.weight"))
    fail(where, ": not supported: a distillation token without a head of its own, or the reverse");
}

}  // namespace

NameMap timm_names(const std::vector<std::string>& names, const std::string& where) {
  const RuleLists rules = rules_for(names);
  NameMap map;
  std::vector<std::string> unknown;
  for (const std::string& name : names) {
    const std::string_view bare = strip_prefixes(name);
    if (is_ignored(bare)) continue;
    const Target target = find_target(rules, bare);
    if (target.name.empty()) {
      unknown.push_back(name);
      continue;
    }
    std::vector<std::string>& sources = map[target.name];
    sources.resize(std::max(sources.size(), size_t{target.part == kWhole ? 1u : kJoined}));
    std::string& slot = at(sources, std::max(target.part, 0));
    if (!slot.empty()) fail(where, ": '", slot, "' and '", name, "' are both ", target.name);
    slot = name;
  }
  if (!unknown.empty()) fail_unknown(unknown, where);
  check_complete(map, where);
  check_heads(map, where);
  return map;
}

}  // namespace vitrun
