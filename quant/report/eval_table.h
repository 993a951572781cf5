// Quantizes one model in several ways and evaluates each in integers, for viteval --table.
#pragma once

#include "runtime/program/predictor.h"
#include "runtime/vision/dataset.h"
#include "runtime/vision/image.h"

namespace vitrun {

// A name and options of vitquant, as in "RepQ, W4/A4 | --recipe repq --bits 4".
struct TableRow {
  std::string name, options;
};

// Reads one row a line; empty lines and those that begin with # do not count. A failure names the
// line.
std::vector<TableRow> read_rows(const std::string& path);

struct TableOptions {
  std::vector<TableRow> rows;
  std::vector<int> seeds;      // each draws other calibration images
  std::string weights;         // a .safetensors
  std::string calibration;     // the value of vitquant's --calib
  std::string images;          // the value of viteval's --images
  std::string state;           // the JSON file that keeps the results
  Exif exif = Exif::kApply;    // for calibration and evaluation
  PredictorOptions predictor;  // options of the evaluation
};

// Evaluates each row and seed that `state` does not hold yet, writes `state` after each, and
// returns the table in Markdown. It fails where `state` is of another model, calibration or images.
std::string make_table(const TableOptions& options, const std::vector<Sample>& samples);

}  // namespace vitrun
