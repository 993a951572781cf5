// Pieces of the self-contained pages that programs write for --report.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace vitrun {

std::string escape_html(const std::string& text);
// Prints x with so many digits after the point.
std::string fixed(double x, int digits);

// The address that holds a file itself, for the src of a picture; `type` is as in "image/png".
std::string data_uri(const std::string& type, const std::vector<uint8_t>& bytes);

struct Bar {
  std::string title;    // text of the tooltip
  double value, error;  // >= 0
  std::string label;    // text below the bar's number, or empty
};

// Draws a figure with a bar for each block, its standard error and its label. The longest bar fills
// the height. `caption` is HTML.
std::string bar_chart(const std::string& caption, const std::vector<Bar>& bars);

// Values in 0..1 at equal steps of x from 0 to 1.
struct Line {
  std::string name;
  std::vector<double> values;  // at least two
};

// Draws at most three lines on axes from 0 to 1, each with its name, which is text, in a legend.
// `caption` is HTML.
std::string line_chart(const std::string& caption, const std::vector<Line>& lines,
                       const std::string& x_axis, const std::string& y_axis);

// Makes a page of a body of HTML.
std::string html_page(const std::string& title, const std::string& body);

// Returns the kind of a unit, "blocks.3.attn.qkv" -> "attn.qkv"; each kind has a chart of its own.
std::string kind_of_unit(const std::string& unit);

}  // namespace vitrun
