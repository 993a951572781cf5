// Tensor names: from whatever a weight file calls its tensors to the current timm names that the
// graph uses. Known are timm (also before Swin's downsample moved to the next stage's start),
// Microsoft's Swin, Facebook's DeiT-III and Hugging Face transformers' ViT, DeiT and Swin.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace vitrun {

// From each current timm name to the file's tensors it is made of: one, or the three of query, key
// and value, whose rows follow one another in this order.
using NameMap = std::map<std::string, std::vector<std::string>>;

// Maps all of a file's names; buffers that no graph needs (relative_position_index, ...) are
// dropped. Fails, naming `where`, for tensors of a model that is not supported, for two tensors
// with one meaning, for an incomplete query, key, value, and for a model without a classifier.
NameMap timm_names(const std::vector<std::string>& names, const std::string& where);

}  // namespace vitrun
