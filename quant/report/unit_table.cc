#include "quant/report/unit_table.h"

#include <algorithm>
#include <cstdio>

#include "models/base/error.h"
#include "models/base/listed.h"
#include "runtime/program/html.h"

namespace vitrun {
namespace {

constexpr double kPoor = 10;  // dB; a tenth of the output's variation is error

// Prints into a string, as printf does.
template <class... Args>
std::string format(const char* how, Args... args) {
  char text[256];
  std::snprintf(text, sizeof text, how, args...);
  return text;
}

// The bits of a weight in the file.
double weight_bits(const UnitRow& row) {
  return row.coded ? 8 * static_cast<double>(row.bytes) / static_cast<double>(row.parameters)
                   : row.bits.weight;
}

std::string bits_text(const UnitRow& row) {
  if (!row.parameters) return format("%d", row.bits.activation);
  return row.coded ? format("%.2f/%d", weight_bits(row), row.bits.activation)
                   : format("%d/%d", row.bits.weight, row.bits.activation);
}

std::string range_text(const UnitRow& row) {
  return row.by_row ? "each row's" : format("%.3g&hellip;%.3g", row.low, row.high);
}

std::string table_row(const UnitRow& row) {
  const std::string warning = warning_of(row);
  std::string html = cat(warning.empty() ? "<tr>" : "<tr class=\"warn\">", "<td>",
                         escape_html(row.name), "</td><td>", bits_text(row), "</td>");
  if (!row.parameters)
    return html + "<td></td><td></td><td></td><td></td><td></td><td></td><td></td></tr>\n";
  return html + cat("<td>", row.bytes, "</td><td>", range_text(row),
                    row.clip_k > 0 ? format(", k = %g", row.clip_k) : std::string(), "</td><td>",
                    fixed(decibels(row.after.weight), 1), "</td><td>",
                    fixed(decibels(row.after.input), 1), "</td><td>",
                    fixed(decibels(row.before.output), 1), "</td><td>",
                    fixed(decibels(row.after.output), 1), "</td><td>", escape_html(warning),
                    "</td></tr>\n");
}

// Draws a chart for each kind of unit: the output's signal-to-noise ratio by block, bits below.
std::string charts(const UnitTable& table) {
  std::vector<std::string> kinds;
  std::map<std::string, std::vector<Bar>> bars;
  for (const UnitRow& row : table) {
    if (!row.parameters) continue;
    const std::string kind = kind_of_unit(row.name);
    if (!bars.contains(kind)) kinds.push_back(kind);
    const double db = decibels(row.after.output);
    bars[kind].push_back(
        {cat(row.name, ": ", fixed(db, 1), " dB"), std::max(db, 0.0), 0, bits_text(row)});
  }
  std::string html = "<div class=\"grid\">\n";
  for (const std::string& kind : kinds) html += bar_chart(escape_html(kind), bars[kind]);
  return html + "</div>\n";
}

}  // namespace

double mean_weight_bits(const UnitTable& table) {
  double bits = 0, parameters = 0;
  for (const UnitRow& row : table) {
    if (row.parameters) bits += static_cast<double>(row.parameters) * weight_bits(row);
    parameters += static_cast<double>(row.parameters);
  }
  return parameters > 0 ? bits / parameters : 0;
}

void put_units(const UnitTable& table, std::map<std::string, QbinValue>& recipe) {
  std::vector<std::string> names;
  std::vector<double> plain, output;
  for (const UnitRow& row : table) {
    if (!row.parameters) continue;
    names.push_back(row.name);
    plain.push_back(decibels(row.before.output));
    output.push_back(decibels(row.after.output));
  }
  recipe["unit_name"] = names;
  recipe["unit_output_db"] = output;
  recipe["unit_plain_output_db"] = plain;
}

std::string warning_of(const UnitRow& row) {
  if (!row.parameters) return "";
  if (decibels(row.after.output) >= kPoor) return "";
  return cat("much of the output is error; the ",
             row.after.input > row.after.weight ? "input" : "weight", " needs more bits");
}

std::string warning_of(const UnitTable& table) {
  constexpr size_t kNamed = 3;
  std::vector<std::string> units;
  for (const UnitRow& row : table)
    if (!warning_of(row).empty()) units.push_back(row.name);
  if (units.empty()) return "";
  return cat("a tenth or more of the output of ", listed(units, kNamed, ""),
             " is error on the calibration images: more bits help (--bits 8, or a file of bits for "
             "these units), or another --recipe");
}

std::string unit_text(const UnitTable& table) {
  std::string text =
      format("%-34s %6s %10s %11s %11s\n", "unit", "W/A", "bytes", "weight dB", "output dB");
  for (const UnitRow& row : table) {
    text += format("%-34s %6s", row.name.c_str(), bits_text(row).c_str());
    if (row.parameters)
      text += format(" %10jd %11.1f %11.1f%s", static_cast<intmax_t>(row.bytes),
                     decibels(row.after.weight), decibels(row.after.output),
                     warning_of(row).empty() ? "" : "  !");
    text += "\n";
  }
  return text;
}

std::string quantization_page(const ReportHead& head, const UnitTable& table) {
  std::string body = cat(
      "<h1>", escape_html(head.title), "</h1><p>", escape_html(head.recipe), ": <b>", head.bytes,
      " bytes</b>, ", fixed(mean_weight_bits(table), 2), " bits a weight in the mean",
      head.milliseconds > 0
          ? cat(", ", fixed(head.milliseconds, 1), " ms an image on one thread of this machine")
          : std::string(),
      ".</p><p>The bars are each unit's output signal-to-noise ratio in dB (10 dB: a tenth of the "
      "output's variation is error), measured on rows of the calibration images; below each block "
      "its bits, weight/activation.");
  if (head.ranking)
    body +=
        cat(" Ranking the units by relevance and by measured output error agree with Kendall "
            "&tau; = ",
            fixed(*head.ranking, 2), ".");
  body += "</p>" + head.plans + charts(table) +
          "<h2>Units</h2><table><tr><th>unit</th><th>bits</th><th>bytes</th><th>input range</th>"
          "<th>weight dB</th><th>input dB</th><th>output dB, layer-wise</th><th>output dB</th>"
          "<th></th></tr>\n";
  for (const UnitRow& row : table) body += table_row(row);
  return html_page(head.title, body + "</table>");
}

}  // namespace vitrun
