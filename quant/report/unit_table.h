// The table of units: what each got and what that cost. Printed, written into the .qbin as
// "recipe.unit_*" and drawn on the page of vitquant --report.
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
  // Of a Linear alone:
  int64_t parameters = 0, bytes = 0;    // of its weight
  double low = 0, high = 0;             // what its input's codes reach
  double clip_k = 0;                    // where method crl clipped its channels; 0: it did not
  LinearError before = {}, after = {};  // of plain layer-wise quantization, and as it is now
};

// One row a unit, in node order; with a weight where `parameters` is not 0.
using UnitTable = std::vector<UnitRow>;

// Bits of a weight in the mean over all parameters.
double mean_weight_bits(const UnitTable& table);

// "unit_name", "unit_output_db" and "unit_plain_output_db", the Linears' alone.
void put_units(const UnitTable& table, std::map<std::string, QbinValue>& recipe);

// As text, one line a unit.
std::string unit_text(const UnitTable& table);

// What is wrong with a unit, or nothing.
std::string warning_of(const UnitRow& row);

struct ReportHead {
  std::string title, recipe;  // what was quantized, and how
  int64_t bytes = 0;          // of the file
  double milliseconds = 0;    // an image, measured on one thread of this machine; 0: not measured
  std::optional<double> ranking;  // Kendall's tau of importance and measured output error
  std::string plans = {};  // HTML of what the bits were chosen from (quant/bits/target_plan.h)
};

// One self-contained HTML page.
std::string quantization_page(const ReportHead& head, const UnitTable& table);

}  // namespace vitrun
