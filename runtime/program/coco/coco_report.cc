#include "runtime/program/coco/coco_report.h"

#include <algorithm>

#include "models/base/error.h"
#include "models/base/index.h"
#include "runtime/program/html.h"

namespace vitrun {
namespace {

struct Part {
  const char *key, *title;
  const CocoScores* scores;
};

std::vector<Part> parts_of(const CocoReport& report) {
  std::vector<Part> parts;
  if (report.boxes) parts.push_back({"bbox", "boxes", &*report.boxes});
  if (report.masks) parts.push_back({"segm", "masks", &*report.masks});
  if (report.reference_boxes)
    parts.push_back({"reference_bbox", "reference boxes", &*report.reference_boxes});
  if (report.reference_masks)
    parts.push_back({"reference_segm", "reference masks", &*report.reference_masks});
  return parts;
}

struct Counts {
  int64_t objects = 0, crowds = 0, detections = 0;
};

// The counts of each category.
std::vector<Counts> counts_of(const CocoReport& report) {
  std::vector<Counts> counts(report.set.categories.size());
  for (const CocoObject& o : report.set.objects)
    (o.crowd ? at(counts, o.category).crowds : at(counts, o.category).objects)++;
  for (const CocoDetection& d : report.detections.found) at(counts, d.category).detections++;
  return counts;
}

Counts total(const std::vector<Counts>& counts) {
  Counts sum;
  for (const Counts& c : counts) {
    sum.objects += c.objects;
    sum.crowds += c.crowds;
    sum.detections += c.detections;
  }
  return sum;
}

std::string figure_text(double x) {
  return x < 0 ? "none" : fixed(x, 4);
}

std::string padded(const std::string& text, size_t width) {
  return std::string(width - std::min(width, text.size()), ' ') + text;
}

// A line of the table: a name, and texts in columns.
std::string line(const std::string& name, const std::vector<std::string>& cells) {
  std::string text = name + std::string(12 - std::min<size_t>(12, name.size()), ' ');
  for (const std::string& cell : cells) text += padded(cell, cells.size() > 2 ? 17 : 9);
  return text + "\n";
}

std::string row(const std::vector<std::string>& cells, const char* tag = "td") {
  std::string html = "<tr>";
  for (const std::string& cell : cells) html += cat("<", tag, ">", cell, "</", tag, ">");
  return html + "</tr>\n";
}

std::string figures_table(const std::vector<Part>& parts) {
  static constexpr const char* kMeanings[std::size(kCocoFigures)] = {
      "mean over IoU .50, .55, &hellip; .95",
      "IoU .50",
      "IoU .75",
      "small: below 32 &times; 32 pixels",
      "medium",
      "large: above 96 &times; 96 pixels",
      "recall with one detection a class and image",
      "with ten",
      "with a hundred",
      "small",
      "medium",
      "large"};
  std::vector<std::string> head = {"figure", "of"};
  for (const Part& p : parts) head.push_back(p.title);
  std::string html = "<table>" + row(head, "th");
  for (size_t i = 0; i < std::size(kCocoFigures); i++) {
    std::vector<std::string> cells = {kCocoFigures[i], kMeanings[i]};
    for (const Part& p : parts) cells.push_back(figure_text(p.scores->figures[i]));
    html += row(cells);
  }
  return html + "</table>\n";
}

std::string curves_chart(const Part& part) {
  const auto points = [&](size_t threshold) {
    const CocoCurve curve = part.scores->mean_curve(threshold);
    return std::vector<double>(curve.begin(), curve.end());
  };
  return line_chart(cat(part.title, ": precision by recall"),
                    {{"IoU .50", points(kCoco50)}, {"IoU .75", points(kCoco75)}}, "recall",
                    "precision");
}

std::string category_table(const CocoReport& report, const std::vector<Part>& parts) {
  std::vector<std::string> head = {"category", "objects", "detections"};
  for (const Part& p : parts)
    for (const char* figure : {" AP", " AP50", " AP75"}) head.push_back(cat(p.title, figure));
  std::string html = "<table>" + row(head, "th");
  const std::vector<Counts> counts = counts_of(report);
  for (size_t k = 0; k < counts.size(); k++) {
    std::vector<std::string> cells = {escape_html(report.set.categories[k].name),
                                      std::to_string(counts[k].objects),
                                      std::to_string(counts[k].detections)};
    for (const Part& p : parts)
      for (double ap : {p.scores->category_ap(k), p.scores->category_ap(k, kCoco50),
                        p.scores->category_ap(k, kCoco75)})
        cells.push_back(figure_text(ap));
    html += row(cells);
  }
  return html + "</table>\n";
}

}  // namespace

CocoReport make_coco_report(const CocoSet& set, const CocoDetections& detections) {
  CocoReport report{set, detections, {}, {}, {}, {}, {}};
  if (detections.boxes) report.boxes = coco_scores(set, detections, CocoKind::kBoxes);
  if (detections.masks && set.no_masks.empty())
    report.masks = coco_scores(set, detections, CocoKind::kMasks);
  return report;
}

void add_coco_reference(const CocoDetections& reference, CocoReport& report) {
  report.reference_boxes = coco_scores(report.set, reference, CocoKind::kBoxes);
  if (report.masks) report.reference_masks = coco_scores(report.set, reference, CocoKind::kMasks);
  report.agreement = coco_agreement(report.detections, reference);
}

namespace {

// "41 of the reference's 45 detections of score 0.5 or more are found, ..."
std::string agreement_text(const CocoAgreement& a) {
  return cat(a.both, " of the reference's ", a.reference, " detections of score ",
             fixed(kSureScore, 1), " or more are found, ", a.found - a.both,
             " others; overlap of boxes ", fixed(a.box_overlap, 3), ", of masks ",
             fixed(a.mask_overlap, 3));
}

}  // namespace

std::string coco_table(const CocoReport& report) {
  const Counts sum = total(counts_of(report));
  const std::vector<Part> parts = parts_of(report);
  std::string text = cat(report.set.images.size(), " images, ", sum.objects, " objects and ",
                         sum.crowds, " crowds of ", report.set.categories.size(), " categories, ",
                         sum.detections, " detections\n");
  std::vector<std::string> cells;
  for (const Part& p : parts) cells.push_back(p.title);
  text += line("", cells);
  for (size_t i = 0; i < std::size(kCocoFigures); i++) {
    cells.clear();
    for (const Part& p : parts) cells.push_back(figure_text(p.scores->figures[i]));
    text += line(kCocoFigures[i], cells);
  }
  if (report.agreement) text += agreement_text(*report.agreement) + "\n";
  return text;
}

nlohmann::ordered_json coco_json(const CocoReport& report) {
  const std::vector<Counts> counts = counts_of(report);
  const Counts sum = total(counts);
  nlohmann::ordered_json j = {{"images", report.set.images.size()},
                              {"categories", report.set.categories.size()},
                              {"objects", sum.objects},
                              {"crowds", sum.crowds},
                              {"detections", sum.detections}};
  for (const Part& p : parts_of(report))
    for (size_t i = 0; i < std::size(kCocoFigures); i++)
      j[p.key][kCocoFigures[i]] = p.scores->figures[i];
  if (const auto& a = report.agreement)
    j["agreement"] = {{"reference", a->reference},
                      {"found", a->found},
                      {"both", a->both},
                      {"box_overlap", a->box_overlap},
                      {"mask_overlap", a->mask_overlap}};
  for (size_t k = 0; k < counts.size(); k++) {
    const CocoCategory& category = report.set.categories[k];
    nlohmann::ordered_json entry = {{"id", category.id},
                                    {"name", category.name},
                                    {"objects", counts[k].objects},
                                    {"detections", counts[k].detections}};
    for (const Part& p : parts_of(report)) entry[cat(p.key, "_AP")] = p.scores->category_ap(k);
    j["by_category"].push_back(entry);
  }
  return j;
}

std::string coco_page(const CocoReport& report, const std::string& title) {
  const std::vector<Part> parts = parts_of(report);
  const Counts sum = total(counts_of(report));
  std::string body =
      cat("<h1>Detections: ", escape_html(title), "</h1><p>", sum.detections, " detections on ",
          report.set.images.size(), " images with ", sum.objects, " objects and ", sum.crowds,
          " crowds of ", report.set.categories.size(),
          " categories. Figures are COCO's, from 0 to 1, as pycocotools computes them; "
          "&ldquo;none&rdquo; where no object counts.",
          report.agreement ? " " + agreement_text(*report.agreement) + "." : std::string(),
          "</p>\n", figures_table(parts),
          "<h2>Precision and recall</h2><p>Means over the categories that have objects, with at "
          "most 100 detections a class and image.</p><div class=\"grid\">\n");
  for (const Part& p : parts) body += curves_chart(p);
  body += cat("</div>\n<h2>By category</h2>\n", category_table(report, parts));
  return html_page("Detections: " + title, body);
}

}  // namespace vitrun
