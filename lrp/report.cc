#include "lrp/report.h"

#include <algorithm>

#include "models/status.h"
#include "runtime/qmodel.h"

namespace vitrun {
namespace {

std::string escaped(const std::string& text) {
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

// "blocks.3.attn.qkv" -> "attn.qkv" and its place among that kind.
std::string kind_of(const std::string& unit) {
  const size_t at = unit.find("blocks.");
  if (at == std::string::npos) return unit.substr(unit.rfind('.') + 1);
  return unit.substr(unit.find('.', at + 7) + 1);
}

struct Bar {
  std::string unit;
  double importance, error;
  std::string bits;  // empty: not given
};

// One chart: a bar for each block, with its standard error and its bits.
std::string chart(const std::string& kind, const std::vector<Bar>& bars) {
  constexpr int kStep = 22, kHeight = 90;
  const int labels = bars[0].bits.empty() ? 22 : 36;
  double top = 0, sum = 0;
  for (const Bar& b : bars) top = std::max(top, b.importance + b.error), sum += b.importance;
  if (top == 0) top = 1;
  std::string svg = cat(
      "<figure><figcaption>", escaped(kind), " <b>", 100 * sum, " %</b></figcaption><svg width=\"",
      kStep * static_cast<int>(bars.size()) + 8, "\" height=\"", kHeight + labels, "\">");
  for (size_t i = 0; i < bars.size(); i++) {
    const Bar& b = bars[i];
    const double height = kHeight * b.importance / top, error = kHeight * b.error / top;
    const int x = 4 + kStep * static_cast<int>(i);
    svg += cat("<rect x=\"", x, "\" y=\"", kHeight - height, "\" width=\"", kStep - 4,
               "\" height=\"", height, "\"><title>", escaped(b.unit), ": ", 100 * b.importance,
               " % +- ", 100 * b.error, "</title></rect><path d=\"M", x + kStep / 2 - 2, " ",
               kHeight - height - error, "v", 2 * error, "\"/><text x=\"", x + kStep / 2 - 2,
               "\" y=\"", kHeight + 14, "\">", i, "</text>");
    if (!b.bits.empty())
      svg += cat("<text class=\"bits\" x=\"", x + kStep / 2 - 2, "\" y=\"", kHeight + 29, "\">",
                 b.bits, "</text>");
  }
  return svg + "</svg></figure>\n";
}

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
    "radius:4px}";

}  // namespace

BitLabels bit_labels(const std::string& qbin, const Scores& scores) {
  const QuantModel model(QbinFile::open(qbin));
  BitLabels labels;
  for (size_t i = 0; i < model.sites().size(); i++) {
    const Site& s = model.sites()[i];
    const bool linear =
        model.graph().nodes[static_cast<size_t>(s.consumer)].kind == NodeKind::kLinear;
    labels[s.unit] =
        cat(linear ? cat(model.linear(s.consumer).bits, "/") : "", model.site_params()[i].bits);
  }
  for (const Scores::Unit& u : scores.units)
    if (!labels.contains(u.name) || model.config().arch != scores.model)
      fail(qbin, ": is of another model than the scores, ", scores.model);
  return labels;
}

std::string report_page(const Scores& scores, const BitLabels& bits,
                        const std::vector<Picture>& pictures) {
  const auto importance = scores.importance(), contribution = scores.contribution(),
             error = scores.standard_error();
  std::vector<std::string> kinds;  // in order of appearance
  std::map<std::string, std::vector<Bar>> bars;
  for (size_t u = 0; u < scores.units.size(); u++) {
    const std::string& unit = scores.units[u].name;
    const std::string kind = kind_of(unit);
    if (!bars.contains(kind)) kinds.push_back(kind);
    const double share = contribution[u] > 0 ? importance[u] / contribution[u] : 0;
    const auto label = bits.find(unit);
    bars[kind].push_back(
        {unit, importance[u], error[u] * share, label == bits.end() ? "" : label->second});
  }
  std::string page = cat(
      "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Relevance of ",
      escaped(scores.model), "</title><style>", kStyle, "</style><h1>Which layers of ",
      escaped(scores.model),
      " matter</h1><p>Relative importance by layer-wise relevance, mean over ", scores.images,
      " images (target: ", escaped(scores.target),
      "). One chart for each kind of unit, a bar for each block, lines are standard errors; each "
      "chart "
      "has its own scale, the number is the kind's share of all importance. Ranking by gradient "
      "&times; input instead agrees with Kendall &tau; = ",
      kendall_tau(contribution, scores.gradient_input()), ".",
      bits.empty() ? "" : " Below each block: bits of the weight / of the activation.",
      "</p><div class=\"grid\">\n");
  for (const std::string& kind : kinds) page += chart(kind, bars[kind]);
  page += "</div>\n";
  if (!pictures.empty()) page += "<h2>Where the model looks</h2><div class=\"grid\">\n";
  for (const Picture& p : pictures)
    page += cat("<figure><figcaption>", escaped(p.title),
                "</figcaption><img alt=\"\" src=\"data:image/png;base64,", base64(p.png),
                "\"></figure>\n");
  return page + (pictures.empty() ? "" : "</div>") + "</html>\n";
}

}  // namespace vitrun
