#include "lrp/report/score_page.h"

#include <algorithm>

#include "models/base/error.h"
#include "runtime/integer/qmodel.h"
#include "runtime/program/html.h"

namespace vitrun {

BitLabels bit_labels(const std::string& qbin, const Scores& scores) {
  const QuantModel model(QbinFile::open(qbin));
  BitLabels labels;
  const QuantGraph& quantized = model.graph();
  for (const QuantizedOperand& o : quantized.operands()) {
    const bool linear = quantized.graph.is(o.consumer, NodeKind::kLinear);
    labels[quantized.graph[o.quantize].unit] =
        cat(linear ? cat(quantized.linear(o.consumer).bits, "/") : "",
            quantized.quantizer(o.quantize).bits);
  }
  for (const Scores::Unit& u : scores.units)
    if (!labels.contains(u.name) || model.info().arch != scores.model)
      fail(qbin, ": is of another model than the scores, ", scores.model);
  return labels;
}

std::string report_page(const Scores& scores, const BitLabels& bits,
                        const std::vector<Picture>& pictures) {
  const auto importance = scores.importance(), contribution = scores.contribution(),
             error = scores.standard_error();
  std::vector<std::string> kinds;  // in the order of their first unit
  std::map<std::string, std::vector<Bar>> bars;
  std::map<std::string, double> share_of_kind;
  for (size_t u = 0; u < scores.units.size(); u++) {
    const std::string& unit = scores.units[u].name;
    const std::string kind = kind_of_unit(unit);
    if (!bars.contains(kind)) kinds.push_back(kind);
    const double share = contribution[u] > 0 ? importance[u] / contribution[u] : 0;
    const auto label = bits.find(unit);
    bars[kind].push_back(
        {cat(unit, ": ", 100 * importance[u], " % +- ", 100 * error[u] * share, " %"),
         importance[u], error[u] * share, label == bits.end() ? "" : label->second});
    share_of_kind[kind] += importance[u];
  }
  std::string body = cat(
      "<h1>Which layers of ", escape_html(scores.model),
      " matter</h1><p>Relative importance by layer-wise relevance, mean over ", scores.images,
      " images (target: ", escape_html(scores.target),
      "). One chart for each kind of unit, a bar for each block, lines are standard errors; each "
      "chart has its own scale, the number is the kind's share of all importance. Ranking by "
      "gradient &times; input instead agrees with Kendall &tau; = ",
      fixed(kendall_tau(contribution, scores.gradient_input()), 2), ".",
      bits.empty() ? "" : " Below each block: bits of the weight / of the activation.",
      "</p><div class=\"grid\">\n");
  for (const std::string& kind : kinds)
    body += bar_chart(cat(escape_html(kind), " <b>", fixed(100 * share_of_kind[kind], 1), " %</b>"),
                      bars[kind]);
  body += "</div>\n";
  if (!pictures.empty()) body += "<h2>Where the model looks</h2><div class=\"grid\">\n";
  for (const Picture& p : pictures)
    body += cat("<figure><figcaption>", escape_html(p.title), "</figcaption><img alt=\"\" src=\"",
                data_uri("image/png", p.png), "\"></figure>\n");
  if (!pictures.empty()) body += "</div>";
  return html_page("Relevance of " + scores.model, body);
}

}  // namespace vitrun
