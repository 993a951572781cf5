// Maps the tensor names of a weight file to the current timm names, which graphs use. It knows the
// names of timm (also from before Swin's downsample moved to the next stage's start), Microsoft's
// Swin and SwinV2, Facebook's DeiT-III and Hugging Face transformers' ViT, DeiT, Swin and SwinV2.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace vitrun {

// Current timm name -> the file's tensors it is made of: one, or those of query, key and value,
// whose rows follow one another in this order.
using NameMap = std::map<std::string, std::vector<std::string>>;

// Maps all names of a file. Buffers that no graph needs (relative_position_index, ...) are dropped.
// Fails, naming `where`, for tensors of a model that is not supported, two tensors with one
// meaning, an incomplete set of query, key and value, and a model without a classifier.
NameMap timm_names(const std::vector<std::string>& names, const std::string& where);

}  // namespace vitrun
