// Maps the tensor names of a weight file to the current timm names, which graphs use. It knows the
// names of timm (also from before Swin's downsample moved to the next stage's start), Microsoft's
// Swin, Facebook's DeiT-III, OpenCLIP and Hugging Face transformers.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace vitrun {

// Current timm name -> the file's tensors it is made of: one, or those of query, key and value, or
// of gate and value, whose rows follow one another in this order. An empty name, which only the
// bias of the key may have, stands for zeros.
using NameMap = std::map<std::string, std::vector<std::string>>;

// Maps all names of a file. Buffers that no graph needs (relative_position_index, ...) are dropped.
// So are a text tower's tensors. Fails, naming `where`, for tensors of a model that is not
// supported, two tensors with one meaning, and an incomplete set of query, key and value.
NameMap timm_names(const std::vector<std::string>& names, const std::string& where);

}  // namespace vitrun
