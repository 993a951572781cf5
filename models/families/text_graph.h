// Builds the graph of CLIP's text tower.
#pragma once

#include "models/checkpoints/clip_text.h"
#include "models/graph/builder.h"

namespace vitrun {

// Input: the embeddings of a text's tokens with their positions added, a map [tokens, 1, width] of
// 1 to `positions` tokens, the last of which is the end token. Attention is causal, so that no
// later token would change its row. Output "embedding" [projection].
Graph build_clip_text(const TextConfig& config);

}  // namespace vitrun
