#include "models/checkpoints/clip_text.h"

#include <algorithm>
#include <set>

#include "models/base/error.h"
#include "models/checkpoints/json_object.h"

namespace vitrun {
namespace {

constexpr int kMaxDepth = 100, kJsonDepth = 16;
constexpr int kOldEnd = 2;  // transformers' mark of old configurations: the highest token counts
constexpr int kUsualEnd = 49407;

// --- names ------------------------------------------------------------------------------------

// A tensor of a block, or outside of blocks, as it is called here, by transformers and by OpenCLIP.
// '*' stands for "weight" and "bias".
struct Name {
  const char *ours, *transformers, *openclip;
};
constexpr Name kBlock[] = {
    {"norm1.*", "layer_norm1.*", "ln_1.*"},
    {"attn.qkv.weight", "self_attn.{q,k,v}_proj.weight", "attn.in_proj_weight"},
    {"attn.qkv.bias", "self_attn.{q,k,v}_proj.bias", "attn.in_proj_bias"},
    {"attn.proj.*", "self_attn.out_proj.*", "attn.out_proj.*"},
    {"norm2.*", "layer_norm2.*", "ln_2.*"},
    {"mlp.fc1.*", "mlp.fc1.*", "mlp.c_fc.*"},
    {"mlp.fc2.*", "mlp.fc2.*", "mlp.c_proj.*"},
};
constexpr Name kOutside[] = {
    {"tokens", "text_model.embeddings.token_embedding.weight", "token_embedding.weight"},
    {"positions", "text_model.embeddings.position_embedding.weight", "positional_embedding"},
    {"norm.*", "text_model.final_layer_norm.*", "ln_final.*"},
    {"projection.weight", "text_projection.weight", "text_projection"},
};
// Buffers that no tower needs.
constexpr const char* kIgnored[] = {"position_ids", "attn_mask"};

std::string with_suffix(const char* name, const char* suffix) {
  std::string out = name;
  if (out.ends_with('*')) out.replace(out.size() - 1, 1, suffix);
  return out;
}

// Finds a file's tensors of the tower.
class Finder {
 public:
  Finder(const std::vector<std::string>& names, const std::string& where)
      : names_(names.begin(), names.end()), where_(where) {
    for (const auto& [tail, transformers] :
         {std::pair{kOutside[0].transformers, true}, {kOutside[0].openclip, false}})
      for (const std::string& name : names_)
        if (name.ends_with(tail) && !found_) {
          found_ = true;
          transformers_ = transformers;
          prefix_ = name.substr(0, name.size() - std::string_view(tail).size());
        }
  }

  bool found() const { return found_; }

  NameMap map() {
    for (const Name& n : kOutside) add("text.", prefix_, n);
    for (int i = 0; i < kMaxDepth && has_block(i); i++)
      for (const Name& n : kBlock) add(cat("text.blocks.", i, "."), block(i), n);
    take("text.logit_scale", {scale_prefix() + "logit_scale"});
    refuse_others();
    return std::move(map_);
  }

 private:
  std::string block(int i) const {
    return cat(prefix_, transformers_ ? "text_model.encoder.layers." : "transformer.resblocks.", i,
               ".");
  }
  bool has_block(int i) const {
    const auto next = names_.lower_bound(block(i));
    return next != names_.end() && next->starts_with(block(i));
  }
  // OpenCLIP's tower may lie in "text.", the scale does not.
  std::string scale_prefix() const {
    constexpr std::string_view kTower = "text.";
    return prefix_.ends_with(kTower) ? prefix_.substr(0, prefix_.size() - kTower.size()) : prefix_;
  }

  void add(const std::string& ours, const std::string& theirs, const Name& n) {
    const bool both = std::string_view(n.ours).ends_with('*');
    for (const char* suffix : {"weight", "bias"}) {
      const std::string name = with_suffix(transformers_ ? n.transformers : n.openclip, suffix);
      std::vector<std::string> sources;
      if (const size_t brace = name.find("{q,k,v}"); brace != name.npos)
        for (const char* part : {"q", "k", "v"})
          sources.push_back(theirs + name.substr(0, brace) + part + name.substr(brace + 7));
      else
        sources.push_back(theirs + name);
      take(ours + with_suffix(n.ours, suffix), sources);
      if (!both) break;
    }
  }

  void take(const std::string& ours, const std::vector<std::string>& sources) {
    for (const std::string& source : sources) {
      if (!names_.contains(source)) fail(where_, ": the text tower has no tensor '", source, "'");
      used_.insert(source);
    }
    map_[ours] = sources;
  }

  void refuse_others() const {
    const std::string tower = prefix_ + (transformers_                ? "text_model."
                                         : prefix_.ends_with("text.") ? ""
                                                                      : "transformer.");
    for (const std::string& name : names_) {
      if (!name.starts_with(tower) || used_.contains(name)) continue;
      if (std::ranges::none_of(kIgnored, [&](const char* end) { return name.ends_with(end); }))
        fail(where_, ": tensor '", name, "' is none of CLIP's text tower");
    }
  }

  std::set<std::string> names_, used_;
  const std::string& where_;
  bool found_ = false, transformers_ = false;
  std::string prefix_;
  NameMap map_;
};

// --- sizes ------------------------------------------------------------------------------------

int side(const ShapeMap& shapes, const char* name, size_t axis, const std::string& where) {
  const Dims& dims = shapes.at(name);
  if (dims.size() != 2 || dims[axis] < 1 || dims[axis] > (1 << 24))
    fail(where, ": '", name, "' of the text tower has shape ", to_string(dims));
  return static_cast<int>(dims[axis]);
}

TextConfig sizes_of(const ShapeMap& shapes, const std::string& where) {
  TextConfig c;
  c.tokens = side(shapes, "text.tokens", 0, where);
  c.width = side(shapes, "text.tokens", 1, where);
  c.positions = side(shapes, "text.positions", 0, where);
  c.projection = side(shapes, "text.projection.weight", 0, where);
  while (shapes.contains(cat("text.blocks.", c.depth, ".norm1.weight"))) c.depth++;
  if (c.depth == 0) fail(where, ": the text tower has no blocks");
  c.hidden = side(shapes, "text.blocks.0.mlp.fc1.weight", 0, where);
  return c;
}

// Fails where the configuration states another size than the weights have.
void agree(const Object& o, const char* key, int found) {
  if (o.has(key) && o.integer(key) != found)
    fail(o.path(), ": '", key, "' is ", o.integer(key), ", the weights say ", found);
}

void read_transformers(const Object& root, TextConfig& c) {
  const bool older = root.has("text_config_dict");  // which then counts alone
  const nlohmann::json none = nlohmann::json::object();
  const Object text = older                     ? root.object("text_config_dict")
                      : root.has("text_config") ? root.object("text_config")
                                                : Object(none, root.path());
  c.heads = 8;
  read(text, "num_attention_heads", c.heads);
  agree(text, "hidden_size", c.width);
  agree(text, "num_hidden_layers", c.depth);
  agree(text, "intermediate_size", c.hidden);
  agree(text, "vocab_size", c.tokens);
  agree(text, "max_position_embeddings", c.positions);
  if (text.has("layer_norm_eps")) c.norm_eps = static_cast<float>(text.number("layer_norm_eps"));
  if (text.has("hidden_act")) {
    const std::string act = text.text("hidden_act");
    if (act != "quick_gelu" && act != "gelu") text.bad("hidden_act", "\"quick_gelu\" or \"gelu\"");
    c.act = act == "gelu" ? ActType::kGelu : ActType::kQuickGelu;
  }
  const int end = text.has("eos_token_id") ? text.integer("eos_token_id") : kUsualEnd;
  c.end_token = end == kOldEnd ? -1 : end;
}

// Keys of OpenCLIP's text_cfg that would make another tower, with the values that do not.
void refuse_openclip_options(const Object& text) {
  for (const char* key :
       {"hf_model_name", "ls_init_value", "block_type", "act_kwargs", "norm_kwargs"})
    if (text.has(key) && text.at(key) != nlohmann::json::object()) text.bad(key, "none");
  for (const char* key :
       {"embed_cls", "no_causal_mask", "final_ln_after_pool", "proj_bias", "qk_norm",
        "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc"})
    require(text, key, false, "false");
  require(text, "proj_type", "linear", "\"linear\"");
}

void read_openclip(const Object& model, TextConfig& c) {
  const Object text = model.object("text_cfg");
  refuse_openclip_options(text);
  c.heads = 8;
  read(text, "heads", c.heads);
  agree(text, "width", c.width);
  agree(text, "layers", c.depth);
  agree(text, "vocab_size", c.tokens);
  agree(text, "context_length", c.positions);
  agree(model, "embed_dim", c.projection);
  c.act = model.flag_or("quick_gelu", false) ? ActType::kQuickGelu : ActType::kGelu;
  const std::string pool = text.has("pool_type") ? text.text("pool_type") : "argmax";
  if (pool != "argmax" && pool != "eos") text.bad("pool_type", "\"argmax\" or \"eos\"");
  if (pool == "eos") c.end_token = text.has("eos_id") ? text.integer("eos_id") : kOldEnd;
}

void refuse_other(const Object& root) {
  if (root.has("model_cfg")) return;
  const std::string type = root.has("model_type") ? root.text("model_type") : "";
  if (type != "clip")
    fail(root.path(), type.empty() ? ": it describes no text tower"
                                   : cat(": the text tower is that of '", type, "', not of CLIP"));
}

}  // namespace

bool has_text_tower(const std::vector<std::string>& names) {
  return Finder(names, "").found();
}

NameMap text_names(const std::vector<std::string>& names, const std::string& where) {
  Finder finder(names, where);
  if (!finder.found()) fail(where, ": it holds no text tower");
  return finder.map();
}

bool is_transposed_projection(const std::string& source) {
  return source.ends_with("text_projection");
}

void refuse_other_text(const std::string& json, const std::string& where) {
  const nlohmann::json value = parse_json(json, where, kJsonDepth);
  refuse_other(Object(value, where));
}

TextConfig text_config(const std::string& json, const ShapeMap& shapes, const std::string& where) {
  const nlohmann::json value = parse_json(json, where, kJsonDepth);
  const Object root(value, where);
  refuse_other(root);
  TextConfig c = sizes_of(shapes, where);
  if (root.has("model_cfg"))
    read_openclip(root.object("model_cfg"), c);
  else
    read_transformers(root, c);
  if (c.heads < 1 || c.width % c.heads)
    fail(where, ": the text tower has ", c.heads, " heads for a width of ", c.width);
  if (!(c.norm_eps > 0 && c.norm_eps <= 1e-2f))
    fail(where, ": the text tower's layer_norm_eps is ", double{c.norm_eps},
         ", expected a number in (0, 0.01]");
  return c;
}

}  // namespace vitrun
