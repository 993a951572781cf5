// The table of units: the bits of each and the errors they make. vitquant prints it, writes it into
// the .qbin as "recipe.unit_*" and draws it on the page of --report.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "quant/bits/bit_plan.h"
#include "quant/bits/linear_error.h"
#include "runtime/files/qbin.h"

namespace vitrun {

struct UnitRow {
  std::string name;
  UnitBits bits;
  // The rest is 0 for a product of two activations.
  int64_t parameters = 0, bytes = 0;  // size of the weight
  bool coded = false;        // whether bits.weight are those in memory, more than in the file
  double low = 0, high = 0;  // the values of the input's first and last code; by_row: not set
  bool by_row = false;       // the input's range is each row's own
  double clip_k = 0;         // k of method crl; 0 where channels were not clipped
  LinearError before = {}, after = {};  // errors of plain layer-wise quantization, and now
};

// One row for each unit, in node order. A row whose `parameters` are not 0 is a Linear's.
using UnitTable = std::vector<UnitRow>;

// Returns the mean bits of a weight over all parameters.
double mean_weight_bits(const UnitTable& table);

// Sets "unit_name", "unit_output_db" and "unit_plain_output_db", which list the Linears.
void put_units(const UnitTable& table, std::map<std::string, QbinValue>& recipe);

// Returns the table as text, one line for each unit.
std::string unit_text(const UnitTable& table);

// Returns what is wrong with a unit, or an empty string.
std::string warning_of(const UnitRow& row);

// Returns one sentence that names the units with a warning, and what helps, or an empty string.
std::string warning_of(const UnitTable& table);

struct ReportHead {
  std::string title, recipe;      // what was quantized, and how
  int64_t bytes = 0;              // size of the file
  double milliseconds = 0;        // one image on one thread of this machine; 0: not measured
  std::optional<double> ranking;  // Kendall's tau of importance and measured output error
  std::string plans = {};         // report_html() of quant/bits/target_plan.h, or empty
};

// Returns one self-contained HTML page.
std::string quantization_page(const ReportHead& head, const UnitTable& table);

}  // namespace vitrun
