// Maps the tensor names of a detector's weight file to those its graphs use.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace vitrun {

// The graphs' name -> the file's. Known are the names of mmdetection 3 and, for the backbone, those
// of the original Swin repository. Fails, naming `where`, on a tensor that neither has.
//   layers.S.blocks.B.*, layers.S.downsample.*, patch_embed.*, normS.*    as timm's Swin
//   neck.lateral.L, neck.fpn.L     1x1 and 3x3 convolutions of the feature pyramid
//   rpn.conv, rpn.cls, rpn.reg
//   box.S.convs.K (.bn), box.S.fcs.K, box.S.cls, box.S.reg      heads of stage S
//   mask.S.convs.K, mask.S.upsample, mask.S.logits
std::map<std::string, std::string> detector_names(const std::vector<std::string>& names,
                                                  const std::string& where);

// Whether the names are those of mmdetection 3, which has the elements of a patch merging in
// another order.
bool has_unfold_order(const std::vector<std::string>& names);

}  // namespace vitrun
