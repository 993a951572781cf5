#include "models/names/names.h"

#include <algorithm>
#include <optional>
#include <span>
#include <string_view>

#include "models/base/error.h"
#include "models/base/index.h"
#include "models/base/listed.h"
#include "models/names/foreign.h"

namespace vitrun {
namespace {

constexpr int kWhole = -1;

// One line for each kind of tensor. '#' stands for a block's or stage's number, '*' for "weight" or
// "bias", and '^', in `to`, for the number plus one. `part` is the place of a tensor among the
// `parts` that are joined: query, key and value, or gate and value.
struct Rule {
  const char* from;
  const char* to;
  int part = kWhole;
  int parts = 3;
};

constexpr Rule kVitRules[] = {
    // timm's ViT
    {"cls_token", "cls_token"},
    {"dist_token", "dist_token"},
    {"reg_token", "reg_token"},
    {"pos_embed", "pos_embed"},
    {"patch_embed.proj.*", "patch_embed.proj.*"},
    {"norm_pre.*", "norm_pre.*"},
    {"blocks.#.norm1.*", "blocks.#.norm1.*"},
    {"blocks.#.attn.qkv.*", "blocks.#.attn.qkv.*"},
    {"blocks.#.attn.q_norm.*", "blocks.#.attn.q_norm.*"},
    {"blocks.#.attn.k_norm.*", "blocks.#.attn.k_norm.*"},
    {"blocks.#.attn.norm.*", "blocks.#.attn.norm.*"},
    {"blocks.#.attn.proj.*", "blocks.#.attn.proj.*"},
    {"blocks.#.ls1.gamma", "blocks.#.ls1.gamma"},
    {"blocks.#.norm2.*", "blocks.#.norm2.*"},
    {"blocks.#.mlp.fc1.*", "blocks.#.mlp.fc1.*"},
    {"blocks.#.mlp.norm.*", "blocks.#.mlp.norm.*"},
    {"blocks.#.mlp.fc2.*", "blocks.#.mlp.fc2.*"},
    {"blocks.#.ls2.gamma", "blocks.#.ls2.gamma"},
    {"norm.*", "norm.*"},
    {"fc_norm.*", "fc_norm.*"},
    {"head.*", "head.*"},
    {"head_dist.*", "head_dist.*"},
    {"attn_pool.latent", "attn_pool.latent"},
    {"attn_pool.q.*", "attn_pool.q.*"},
    {"attn_pool.kv.*", "attn_pool.kv.*"},
    {"attn_pool.proj.*", "attn_pool.proj.*"},
    {"attn_pool.norm.*", "attn_pool.norm.*"},
    {"attn_pool.mlp.fc1.*", "attn_pool.mlp.fc1.*"},
    {"attn_pool.mlp.fc2.*", "attn_pool.mlp.fc2.*"},
    // timm's BEiT and EVA; Facebook's DeiT-III has gamma_1 and gamma_2 too
    {"blocks.#.gamma_1", "blocks.#.ls1.gamma"},
    {"blocks.#.gamma_2", "blocks.#.ls2.gamma"},
    {"blocks.#.attn.q_bias", "blocks.#.attn.qkv.bias", 0},
    {"blocks.#.attn.k_bias", "blocks.#.attn.qkv.bias", 1},
    {"blocks.#.attn.v_bias", "blocks.#.attn.qkv.bias", 2},
    {"blocks.#.attn.q_proj.*", "blocks.#.attn.qkv.*", 0},
    {"blocks.#.attn.k_proj.*", "blocks.#.attn.qkv.*", 1},
    {"blocks.#.attn.v_proj.*", "blocks.#.attn.qkv.*", 2},
    {"blocks.#.attn.relative_position_bias_table", "blocks.#.attn.relative_position_bias_table"},
    {"rel_pos_bias.relative_position_bias_table", "rel_pos_bias.relative_position_bias_table"},
    {"blocks.#.attn.rel_pos.mlp.fc1.*", "blocks.#.attn.rel_pos.mlp.fc1.*"},
    {"blocks.#.attn.rel_pos.mlp.fc2.*", "blocks.#.attn.rel_pos.mlp.fc2.*"},
    {"shared_rel_pos.mlp.fc1.*", "shared_rel_pos.mlp.fc1.*"},
    {"shared_rel_pos.mlp.fc2.*", "shared_rel_pos.mlp.fc2.*"},
    {"blocks.#.mlp.fc1_g.*", "blocks.#.mlp.fc1.*", 0, 2},
    {"blocks.#.mlp.fc1_x.*", "blocks.#.mlp.fc1.*", 1, 2},
    {"rope.freqs", "rope.freqs"},
    // transformers' ViT, DeiT, MAE, MSN; version 5 has names of its own while a model is in memory
    {"embeddings.cls_token", "cls_token"},
    {"embeddings.distillation_token", "dist_token"},
    {"embeddings.position_embeddings", "pos_embed"},
    {"embeddings.patch_embeddings.projection.*", "patch_embed.proj.*"},
    {"layer.#.layernorm_before.*", "blocks.#.norm1.*"},
    {"layers.#.layernorm_before.*", "blocks.#.norm1.*"},
    {"layer.#.attention.attention.query.*", "blocks.#.attn.qkv.*", 0},
    {"layer.#.attention.attention.key.*", "blocks.#.attn.qkv.*", 1},
    {"layer.#.attention.attention.value.*", "blocks.#.attn.qkv.*", 2},
    {"layer.#.attention.output.dense.*", "blocks.#.attn.proj.*"},
    {"layers.#.attention.q_proj.*", "blocks.#.attn.qkv.*", 0},
    {"layers.#.attention.k_proj.*", "blocks.#.attn.qkv.*", 1},
    {"layers.#.attention.v_proj.*", "blocks.#.attn.qkv.*", 2},
    {"layers.#.attention.o_proj.*", "blocks.#.attn.proj.*"},
    {"layer.#.layernorm_after.*", "blocks.#.norm2.*"},
    {"layers.#.layernorm_after.*", "blocks.#.norm2.*"},
    {"layer.#.intermediate.dense.*", "blocks.#.mlp.fc1.*"},
    {"layer.#.output.dense.*", "blocks.#.mlp.fc2.*"},
    {"layernorm.*", "norm.*"},
    {"pooler.dense.*", "pooler.dense.*"},
    {"classifier.*", "head.*"},
    {"cls_classifier.*", "head.*"},
    {"distillation_classifier.*", "head_dist.*"},
    // transformers' BEiT
    {"layer.#.lambda_1", "blocks.#.ls1.gamma"},
    {"layer.#.lambda_2", "blocks.#.ls2.gamma"},
    {"layers.#.lambda_1", "blocks.#.ls1.gamma"},
    {"layers.#.lambda_2", "blocks.#.ls2.gamma"},
    {"layer.#.attention.attention.relative_position_bias.relative_position_bias_table",
     "blocks.#.attn.relative_position_bias_table"},
    {"layers.#.attention.relative_position_bias.relative_position_bias_table",
     "blocks.#.attn.relative_position_bias_table"},
    {"relative_position_bias.relative_position_bias_table",
     "rel_pos_bias.relative_position_bias_table"},
    {"pooler.layernorm.*", "fc_norm.*"},
    // transformers' DINOv2 and DINOv3
    {"embeddings.register_tokens", "reg_token"},
    {"embeddings.patch_embeddings.*", "patch_embed.proj.*"},
    {"layer.#.norm1.*", "blocks.#.norm1.*"},
    {"layer.#.norm2.*", "blocks.#.norm2.*"},
    {"layer.#.attention.q_proj.*", "blocks.#.attn.qkv.*", 0},
    {"layer.#.attention.k_proj.*", "blocks.#.attn.qkv.*", 1},
    {"layer.#.attention.v_proj.*", "blocks.#.attn.qkv.*", 2},
    {"layer.#.attention.o_proj.*", "blocks.#.attn.proj.*"},
    {"layer.#.layer_scale1.lambda1", "blocks.#.ls1.gamma"},
    {"layer.#.layer_scale2.lambda1", "blocks.#.ls2.gamma"},
    {"layer.#.mlp.fc1.*", "blocks.#.mlp.fc1.*"},
    {"layer.#.mlp.fc2.*", "blocks.#.mlp.fc2.*"},
    {"layer.#.mlp.weights_in.*", "blocks.#.mlp.fc1.*"},
    {"layer.#.mlp.weights_out.*", "blocks.#.mlp.fc2.*"},
    {"layer.#.mlp.gate_proj.*", "blocks.#.mlp.fc1.*", 0, 2},
    {"layer.#.mlp.up_proj.*", "blocks.#.mlp.fc1.*", 1, 2},
    {"layer.#.mlp.down_proj.*", "blocks.#.mlp.fc2.*"},
    // transformers' CLIP and SigLIP
    {"embeddings.class_embedding", "cls_token"},
    {"embeddings.position_embedding.weight", "pos_embed"},
    {"embeddings.patch_embedding.*", "patch_embed.proj.*"},
    {"pre_layrnorm.*", "norm_pre.*"},
    {"layers.#.layer_norm1.*", "blocks.#.norm1.*"},
    {"layers.#.self_attn.q_proj.*", "blocks.#.attn.qkv.*", 0},
    {"layers.#.self_attn.k_proj.*", "blocks.#.attn.qkv.*", 1},
    {"layers.#.self_attn.v_proj.*", "blocks.#.attn.qkv.*", 2},
    {"layers.#.self_attn.out_proj.*", "blocks.#.attn.proj.*"},
    {"layers.#.layer_norm2.*", "blocks.#.norm2.*"},
    {"layers.#.mlp.fc1.*", "blocks.#.mlp.fc1.*"},
    {"layers.#.mlp.fc2.*", "blocks.#.mlp.fc2.*"},
    {"post_layernorm.*", "norm.*"},
    {"head.probe", "attn_pool.latent"},
    {"head.attention.in_proj_weight", "attn_pool.qkv.weight"},
    {"head.attention.in_proj_bias", "attn_pool.qkv.bias"},
    {"head.attention.out_proj.*", "attn_pool.proj.*"},
    {"head.layernorm.*", "attn_pool.norm.*"},
    {"head.mlp.fc1.*", "attn_pool.mlp.fc1.*"},
    {"head.mlp.fc2.*", "attn_pool.mlp.fc2.*"},
    {"visual_projection.weight", "visual_projection.weight"},
    // OpenCLIP
    {"visual.class_embedding", "cls_token"},
    {"visual.positional_embedding", "pos_embed"},
    {"visual.conv1.*", "patch_embed.proj.*"},
    {"visual.ln_pre.*", "norm_pre.*"},
    {"visual.transformer.resblocks.#.ln_1.*", "blocks.#.norm1.*"},
    {"visual.transformer.resblocks.#.attn.in_proj_weight", "blocks.#.attn.qkv.weight"},
    {"visual.transformer.resblocks.#.attn.in_proj_bias", "blocks.#.attn.qkv.bias"},
    {"visual.transformer.resblocks.#.attn.out_proj.*", "blocks.#.attn.proj.*"},
    {"visual.transformer.resblocks.#.ls_1.gamma", "blocks.#.ls1.gamma"},
    {"visual.transformer.resblocks.#.ln_2.*", "blocks.#.norm2.*"},
    {"visual.transformer.resblocks.#.mlp.c_fc.*", "blocks.#.mlp.fc1.*"},
    {"visual.transformer.resblocks.#.mlp.c_proj.*", "blocks.#.mlp.fc2.*"},
    {"visual.transformer.resblocks.#.ls_2.gamma", "blocks.#.ls2.gamma"},
    {"visual.ln_post.*", "norm.*"},
    {"visual.attn_pool.query", "attn_pool.latent"},
    {"visual.attn_pool.ln_q.*", "attn_pool.norm_q.*"},
    {"visual.attn_pool.ln_k.*", "attn_pool.norm_k.*"},
    {"visual.attn_pool.attn.in_proj_weight", "attn_pool.qkv.weight"},
    {"visual.attn_pool.attn.q_proj_weight", "attn_pool.q.weight"},
    {"visual.attn_pool.attn.k_proj_weight", "attn_pool.k.weight"},
    {"visual.attn_pool.attn.v_proj_weight", "attn_pool.v.weight"},
    {"visual.attn_pool.attn.in_proj_bias", "attn_pool.qkv.bias"},
    {"visual.attn_pool.attn.out_proj.*", "attn_pool.proj.*"},
    {"visual.proj", "visual_projection.transposed"},
    {"visual.head.proj.*", "visual_projection.*"},
    {"visual.trunk.head.*", "visual_projection.*"},
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

// SwinV2 has these beside Swin's.
constexpr Rule kSwinV2Rules[] = {
    {"layers.#.blocks.#.attn.q_bias", "layers.#.blocks.#.attn.qkv.bias", 0},
    {"layers.#.blocks.#.attn.v_bias", "layers.#.blocks.#.attn.qkv.bias", 2},
    {"layers.#.blocks.#.attn.logit_scale", "layers.#.blocks.#.attn.logit_scale"},
    {"layers.#.blocks.#.attn.cpb_mlp.0.*", "layers.#.blocks.#.attn.cpb_mlp.0.*"},
    {"layers.#.blocks.#.attn.cpb_mlp.2.*", "layers.#.blocks.#.attn.cpb_mlp.2.*"},
    // transformers
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
constexpr const char* kPrefixes[] = {"module.",
                                     "model.",
                                     "_orig_mod.",
                                     "timm_model.",
                                     "backbone.",
                                     "net.",
                                     "encoder.",
                                     "base_model.model.",
                                     "vision_model.",
                                     "visual.trunk.",
                                     "vit.",
                                     "deit.",
                                     "dinov2.",
                                     "ijepa.",
                                     "dinov2_with_registers.",
                                     "beit.",
                                     "swin.",
                                     "swinv2."};

// Tensors that are recomputed from the configuration, unused in classification, or counters.
constexpr const char* kIgnored[] = {"relative_position_index",
                                    "relative_coords_table",
                                    "attn_mask",
                                    "position_ids",
                                    "num_batches_tracked",
                                    "mask_token"};

// Parts beside the image's encoder, by the beginnings of their tensors' names: the text tower of a
// model of images and text, the decoder of a masked autoencoder.
constexpr const char* kOtherParts[] = {"text_model.",
                                       "text_projection",
                                       "logit_scale",
                                       "logit_bias",
                                       "transformer.resblocks.",
                                       "token_embedding.",
                                       "positional_embedding",
                                       "ln_final.",
                                       "text.",
                                       "text_decoder.",
                                       "decoder_embed.",
                                       "decoder_blocks.",
                                       "decoder_pos_embed",
                                       "decoder_norm.",
                                       "decoder_pred.",
                                       "decoder.mask_token",
                                       "decoder.decoder_"};

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

// Whether a tensor is of another part, whatever wrapper it lies in.
bool is_other_part(std::string_view name) {
  do {
    if (std::ranges::any_of(kOtherParts,
                            [&](const char* begin) { return name.starts_with(begin); }))
      return true;
  } while (strip_prefix(name));
  return false;
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
  for (std::string_view name : names) do {
      swin = swin || name.starts_with("layers.0.blocks.") ||
             name.starts_with("encoder.layers.0.blocks.");
      downsample_last = downsample_last || name.starts_with("layers.0.downsample.");
    } while (strip_prefix(name));
  if (!swin) return {kVitRules};
  if (downsample_last) return {kSwinRules, kSwinV2Rules, kDownsampleLast};
  return {kSwinRules, kSwinV2Rules, kDownsampleFirst};
}

struct Target {
  std::string name;  // "" if no rule fits
  int part = kWhole, parts = 1;
  size_t prefix = 0;  // how much of the tensor's name wrappers added
};

Target find_target(const RuleLists& lists, std::string_view name) {
  const size_t whole = name.size();
  do {
    const std::vector<std::string_view> parts = split(name);
    for (std::span<const Rule> rules : lists)
      for (const Rule& rule : rules) {
        std::string to = apply(rule, parts);
        if (to.empty()) continue;
        const int joined = rule.part == kWhole ? 1 : rule.parts;
        return {std::move(to), rule.part, joined, whole - name.size()};
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
  fail(where, ": not supported: tensors of no vision transformer that vitrun knows: ",
       listed(unknown, kShown));
}

// Two tensors have one meaning: mostly those of two models under two prefixes.
[[noreturn]] void fail_twice(const RuleLists& rules, const std::string& a, const std::string& b,
                             const std::string& where) {
  const Target first = find_target(rules, a), second = find_target(rules, b);
  const std::string one = a.substr(0, first.prefix), other = b.substr(0, second.prefix);
  fail(where, ": ", one == other ? "" : cat("two models, under '", one, "' and '", other, "': "),
       "'", a, "' and '", b, "' are both ", first.name);
}

// DINOv3's MLP without a gate has the same name for fc1 as that for a gated one's values.
void join_plain_mlp(NameMap& map) {
  for (auto& [name, sources] : map)
    if (sources.size() == 2 && sources[0].empty() &&
        sources[1].find(".mlp.up_proj.") != std::string::npos)
      sources.erase(sources.begin());
}

// A fused tensor has one source; otherwise all parts must be there, but for a bias of the key,
// which many models have in no block.
void check_complete(const NameMap& map, const std::string& where) {
  const auto without_key = [](const auto& entry) {
    return entry.first.ends_with(".attn.qkv.bias") && entry.second.size() == 3 &&
           entry.second[1].empty();
  };
  const auto joined = [](const auto& entry) {
    return entry.first.ends_with(".attn.qkv.bias") && entry.second.size() == 3;
  };
  const bool keyless =
      std::ranges::count_if(map, without_key) == std::ranges::count_if(map, joined);
  for (const auto& [name, sources] : map)
    for (size_t i = 0; i < sources.size(); i++)
      if (sources[i].empty() && !(keyless && i == 1 && name.ends_with(".attn.qkv.bias")))
        fail(where, ": '", name, "' needs ",
             sources.size() == 2 ? "gate and value" : "query, key and value",
             "; one of them is missing");
}

// Leaves out what a classifier of transformers' carries and does not use: the pooler of its tokens,
// and SigLIP's attention pooling.
void drop_unused(NameMap& map) {
  const auto head = map.find("head.weight");
  if (head == map.end()) return;
  const bool transformers = head->second.front().ends_with("classifier.weight");
  std::erase_if(map, [&](const auto& entry) {
    return entry.first.starts_with("pooler.dense.") ||
           (transformers && entry.first.starts_with("attn_pool."));
  });
}

}  // namespace

NameMap timm_names(const std::vector<std::string>& names, const std::string& where) {
  const RuleLists rules = rules_for(names);
  NameMap map;
  std::vector<std::string> unknown;
  std::optional<std::string> prefix;  // of the blocks
  for (const std::string& name : names) {
    if (is_ignored(name) || is_other_part(name)) continue;
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
    sources.resize(std::max(sources.size(), static_cast<size_t>(target.parts)));
    std::string& slot = at(sources, std::max(target.part, 0));
    if (!slot.empty()) fail_twice(rules, slot, name, where);
    slot = name;
  }
  if (!unknown.empty()) fail_unknown(unknown, rules, prefix, where);
  if (map.empty()) fail(where, ": no tensor of a vision transformer in it");
  join_plain_mlp(map);
  check_complete(map, where);
  drop_unused(map);
  return map;
}

}  // namespace vitrun
