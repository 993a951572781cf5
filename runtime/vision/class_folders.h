// Turns the names of folders of images into class indices.
#pragma once

#include <string>

#include "models/graph/model_info.h"
#include "runtime/vision/dataset.h"

namespace vitrun {

// How samples came by their labels.
struct Labelling {
  // "list"; "label names" or "WordNet ids" that folders carry; "folder order"; "none".
  std::string from;
  // A sentence for people about what was guessed, without a line end; empty for nothing.
  std::string note;
};

// Labels the samples of a folder. The folders' names are looked for in the model's label names
// (letter case and _ for a space do not matter; "tench, Tinca tinca" is also "tench") and, for a
// model of 1000 classes, in the WordNet ids of ImageNet-1k. They may be one or more levels down. If
// no name is found, folders are numbered in the order of their names, empty ones too, and the
// note says so; folders within folders then belong to the outer one, unless all images lie in a
// single outer one. Images outside the class folders keep no label.
//
// Fails, naming them, where some folders' names are known and others not, where a name is that of
// several classes, where images lie beside folders that are numbered, and where the folders to be
// numbered are called train, val and the like.
Labelling label_by_folder(ImageList& images, const ModelInfo& model);

}  // namespace vitrun
