// Pieces of the self-contained pages that programs write with --report.
#pragma once

#include <string>
#include <vector>

namespace vitrun {

std::string escape_html(const std::string& text);
// With so many digits after the point.
std::string fixed(double x, int digits);

struct Bar {
  std::string title;    // what a tooltip says
  double value, error;  // >= 0
  std::string label;    // under the bar's number; empty: none
};

// A figure with a bar for each block, its standard error and its label; scaled to its own largest.
// `caption` is HTML.
std::string bar_chart(const std::string& caption, const std::vector<Bar>& bars);

// The page around a body of HTML.
std::string html_page(const std::string& title, const std::string& body);

// The kind of a unit, "blocks.3.attn.qkv" -> "attn.qkv", by which charts are grouped.
std::string kind_of_unit(const std::string& unit);

}  // namespace vitrun
