// The text side of a model of images and texts: its text tower in the .qbin, or, in its stead, the
// classes that it gives the image tower.
#pragma once

#include "quant/pipeline.h"

namespace vitrun {

// Texts for calibration, [count, most tokens, 1, width]: prompt templates filled with words of the
// tokenizer's vocabulary, one after another, each with its end token (docs/quantization.md).
Tensor calibration_texts(const TextTower& tower, int64_t count);

// Quantizes the text tower with the methods and widths of `options`, but the same bits for all
// units, and adds it to a file as the graph "text". Returns its units.
UnitTable add_text_tower(QbinWriter& file, TextTower tower, const QuantizeOptions& options,
                         const Progress& progress = {});

// Gives the model the output "logits": `scale` times the cosine of the embedding and each row of
// `classes` [classes, D], which have length 1.
void add_class_head(FloatModel& model, const Tensor& classes, float scale,
                    const std::vector<std::string>& names);

}  // namespace vitrun
