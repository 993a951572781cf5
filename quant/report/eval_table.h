// viteval --table: a table of quantizations of one model, each evaluated in integers.
#pragma once

#include "runtime/program/predictor.h"
#include "runtime/vision/dataset.h"

namespace vitrun {

// "RepQ, W4/A4 | --method repq --wbits 4 --abits 4": a name and options of vitquant.
struct TableRow {
  std::string name, options;
};

// One row a line; empty lines and those that begin with # do not count. Fails naming the line.
std::vector<TableRow> read_rows(const std::string& path);

struct TableOptions {
  std::vector<TableRow> rows;
  std::vector<int> seeds;                    // each draws other calibration images
  std::string weights, calibration, images;  // a .safetensors, and what vitquant and viteval take
  std::string state;                         // JSON of the results
  PredictorOptions predictor;                // of the evaluation
};

// Evaluates what `state` does not hold yet, row by row and seed by seed, writing `state` after
// each, and returns the table in Markdown. Fails where `state` is of another model, calibration or
// images.
std::string make_table(const TableOptions& options, const std::vector<Sample>& samples);

}  // namespace vitrun
