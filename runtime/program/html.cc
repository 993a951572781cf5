#include "runtime/program/html.h"

#include <algorithm>
#include <cstdio>

#include "models/base/error.h"

namespace vitrun {
namespace {

constexpr char kStyle[] =
    "body{font:15px/1.5 system-ui,sans-serif;color:#223;max-width:1100px;margin:2em auto;padding:0 "
    "1em}"
    "h1{font-size:1.5em;font-weight:600}h2{font-size:1.15em;margin-top:2em;font-weight:600}p{max-"
    "width:75ch}"
    ".grid{display:flex;flex-wrap:wrap;gap:18px}figure{margin:0;padding:12px 14px;border:1px solid "
    "#dde;"
    "border-radius:8px;background:#fcfcff}figcaption{font-size:.9em;margin-bottom:6px;color:#445}"
    "figcaption "
    "b{color:#223;font-weight:600}rect{fill:#5b6ee1}rect:hover{fill:#e07b39}path{stroke:#223;"
    "stroke-width:1.2}text{font-size:10px;text-anchor:middle;fill:#667}.bits{fill:#b4541a;font-"
    "weight:600}img{display:block;border-"
    "radius:4px}table{border-collapse:collapse;font-size:.85em}td,th{padding:3px 9px;text-align:"
    "right;border-bottom:1px solid #e4e6ee}th{font-weight:600;color:#445}td:first-child,th:first-"
    "child{text-align:left}td{white-space:nowrap}.warn td{background:#fff3e9}";

std::string base64(const std::vector<uint8_t>& bytes) {
  static constexpr char kDigits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t left = std::min<size_t>(3, bytes.size() - i);
    uint32_t word = 0;
    for (size_t j = 0; j < 3; j++) word = word << 8 | (j < left ? bytes[i + j] : 0u);
    for (size_t j = 0; j < 4; j++) out += j <= left ? kDigits[word >> (18 - 6 * j) & 63] : '=';
  }
  return out;
}

// The area that lines are drawn on, and the room around it for texts.
constexpr int kPlotWidth = 400, kPlotHeight = 260, kPlotLeft = 36, kPlotTop = 10, kPlotBelow = 34;

double plot_x(double x) {
  return kPlotLeft + kPlotWidth * x;
}
double plot_y(double y) {
  return kPlotTop + kPlotHeight * (1 - y);
}

std::string plot_text(double x, double y, const std::string& text, const char* anchor = "middle") {
  return cat("<text x=\"", x, "\" y=\"", y, "\" style=\"text-anchor:", anchor, "\">",
             escape_html(text), "</text>");
}

std::string plot_path(const std::string& points, const std::string& style) {
  return cat("<path d=\"", points, "\" style=\"fill:none;", style, "\"/>");
}

// A grid with a number every fifth, and the names of the axes.
std::string plot_axes(const std::string& x_axis, const std::string& y_axis) {
  std::string svg;
  for (int i = 0; i <= 5; i++) {
    const double v = i / 5.0;
    svg += plot_path(cat("M", plot_x(0), " ", plot_y(v), "h", kPlotWidth, "M", plot_x(v), " ",
                         plot_y(0), "v", -kPlotHeight),
                     "stroke:#e4e6ee");
    svg += plot_text(plot_x(v), plot_y(0) + 14, fixed(v, 1));
    svg += plot_text(plot_x(0) - 5, plot_y(v) + 3, fixed(v, 1), "end");
  }
  return svg + plot_text(plot_x(.5), plot_y(0) + 28, x_axis) +
         plot_text(plot_x(0) + 4, plot_y(1) + 10, y_axis, "start");
}

std::string plot_line(const Line& line, const char* color, size_t place) {
  std::string points;
  for (size_t i = 0; i < line.values.size(); i++)
    points += cat(i ? "L" : "M",
                  plot_x(static_cast<double>(i) / static_cast<double>(line.values.size() - 1)), " ",
                  plot_y(line.values[i]));
  const std::string style = cat("stroke-width:2;stroke:", color);
  const double y = plot_y(1) + 14 + 16 * static_cast<double>(place);
  return plot_path(points, style) + plot_path(cat("M", plot_x(.76), " ", y, "h22"), style) +
         plot_text(plot_x(.76) + 28, y + 3, line.name, "start");
}

}  // namespace

std::string data_uri(const std::string& type, const std::vector<uint8_t>& bytes) {
  return cat("data:", type, ";base64,", base64(bytes));
}

std::string escape_html(const std::string& text) {
  std::string out;
  for (char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '"')
      out += "&quot;";
    else
      out += c;
  }
  return out;
}

std::string fixed(double x, int digits) {
  char text[400];  // the largest double has 309 digits
  std::snprintf(text, sizeof text, "%.*f", digits, x);
  return text;
}

std::string kind_of_unit(const std::string& unit) {
  const size_t at = unit.find("blocks.");
  if (at == std::string::npos) return unit.substr(unit.rfind('.') + 1);
  return unit.substr(unit.find('.', at + 7) + 1);
}

std::string bar_chart(const std::string& caption, const std::vector<Bar>& bars) {
  constexpr int kStep = 22, kHeight = 90;
  const int labels = bars[0].label.empty() ? 22 : 36;
  double top = 0;
  for (const Bar& b : bars) top = std::max(top, b.value + b.error);
  if (top == 0) top = 1;
  std::string svg =
      cat("<figure><figcaption>", caption, "</figcaption><svg width=\"",
          kStep * static_cast<int>(bars.size()) + 8, "\" height=\"", kHeight + labels, "\">");
  for (size_t i = 0; i < bars.size(); i++) {
    const Bar& b = bars[i];
    const double height = kHeight * b.value / top, error = kHeight * b.error / top;
    const int x = 4 + kStep * static_cast<int>(i);
    svg +=
        cat("<rect x=\"", x, "\" y=\"", kHeight - height, "\" width=\"", kStep - 4, "\" height=\"",
            height, "\"><title>", escape_html(b.title), "</title></rect><path d=\"M",
            x + kStep / 2 - 2, " ", kHeight - height - error, "v", 2 * error, "\"/><text x=\"",
            x + kStep / 2 - 2, "\" y=\"", kHeight + 14, "\">", i, "</text>");
    if (!b.label.empty())
      svg += cat("<text class=\"bits\" x=\"", x + kStep / 2 - 2, "\" y=\"", kHeight + 29, "\">",
                 b.label, "</text>");
  }
  return svg + "</svg></figure>\n";
}

std::string line_chart(const std::string& caption, const std::vector<Line>& lines,
                       const std::string& x_axis, const std::string& y_axis) {
  static constexpr const char* kColors[] = {"#5b6ee1", "#e07b39", "#2a9d8f"};
  std::string svg = cat("<figure><figcaption>", caption, "</figcaption><svg width=\"",
                        kPlotLeft + kPlotWidth + 12, "\" height=\"",
                        kPlotTop + kPlotHeight + kPlotBelow, "\">", plot_axes(x_axis, y_axis));
  for (size_t i = 0; i < lines.size(); i++)
    svg += plot_line(lines[i], kColors[i % std::size(kColors)], i);
  return svg + "</svg></figure>\n";
}

std::string html_page(const std::string& title, const std::string& body) {
  return cat("<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>", escape_html(title),
             "</title><style>", kStyle, "</style>", body, "</html>\n");
}

}  // namespace vitrun
