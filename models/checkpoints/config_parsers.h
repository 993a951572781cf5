// The parsers of the two conventions of config.json, for config_json.cc, and what they share.
#pragma once

#include "models/checkpoints/config.h"
#include "models/checkpoints/json_object.h"

namespace vitrun {

ModelConfig timm_config(const Object& root, const ShapeMap& shapes, const Given& given);
ModelConfig transformers_config(const Object& root, const ShapeMap& shapes, const Given& given);
ModelConfig open_clip_config(const Object& root, const ShapeMap& shapes, const Given& given);

// Sets crop_pct, which must be above 0.1 so that no image is enlarged beyond reason.
void set_crop_pct(const Object& o, const char* key, float pct, ModelConfig& c);

// Reads "mlp_ratio", for which the width must be known.
void read_mlp_ratio(const Object& o, ModelConfig& c);

// Reads timm's name of a pooling: "token", "avg" or "map".
Pool read_pool_name(const Object& o, const char* key);

// Reads the sides of Swin's windows from timm's arguments.
void read_timm_windows(const Object& args, ModelConfig& c);
// Reads transformers' configuration of Swin or SwinV2, and what it says once the image size is
// known.
void read_transformers_swin(const Object& root, ModelConfig& c);
void finish_transformers_swin(const Object& root, ModelConfig& c);

// Reads {"0": "tench", ...}, which must have every index from 0 on.
std::vector<std::string> indexed_labels(const Object& o, const char* key);

// Whether labels are the "LABEL_0", "LABEL_1", ... that transformers writes where nobody named the
// classes.
bool is_placeholder(const std::vector<std::string>& labels);

// Sets what the image processors of a type's files on the hub do; `type` is a model_type.
void set_transformers_preprocess(const std::string& type, PreprocessConfig& p);

// Validates a configuration to which preprocessing and labels have been added since complete().
void validate_again(const ModelConfig& c, const std::string& where);

}  // namespace vitrun
