// Says what a file is that vitrun does not run, so that a refusal names the true reason. Each
// function returns "" for what it does not recognise.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace vitrun {

// The format of a file that is no .safetensors, by its first bytes, and what to do about it.
std::string foreign_format(std::string_view bytes);

// "is SwinV2": the family that a configuration names by transformers' "model_type" or timm's
// "architecture".
std::string foreign_type(const std::string& type);

// "is SwinV2" or "has register tokens": the family, or the part of a model, that tensors of these
// names belong to.
std::string foreign_tensors(const std::vector<std::string>& names);

}  // namespace vitrun
