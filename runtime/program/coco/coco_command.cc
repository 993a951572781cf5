#include "runtime/program/coco/coco_command.h"

#include <iostream>

#include "models/base/error.h"
#include "runtime/files/atomic_file.h"
#include "runtime/program/coco/coco_report.h"

namespace vitrun {
namespace {

void say(const std::vector<std::string>& notes) {
  for (const std::string& note : notes) std::cerr << note << "\n";
}

// Fails where neither boxes nor masks can be measured, and says where only one of them can.
void check_parts(const CocoSet& set, const CocoDetections& detections) {
  if (!detections.masks || set.no_masks.empty()) return;
  if (!detections.boxes) fail(set.no_masks, ", and the detections have masks alone");
  std::cerr << set.no_masks << ": masks are not measured\n";
}

// Prints what is asked for of the detections, and writes the page.
void report_detections(const cxxopts::ParseResult& args, const CocoSet& set,
                       const CocoDetections& detections, const std::string& title) {
  check_parts(set, detections);
  const CocoReport report = make_coco_report(set, detections);
  if (args.count("json"))
    std::cout << coco_json(report).dump(2, ' ', false, nlohmann::json::error_handler_t::replace)
              << "\n";
  else
    std::cout << coco_table(report);
  if (args.count("report")) write_file(args["report"].as<std::string>(), coco_page(report, title));
}

}  // namespace

void add_coco_options(cxxopts::Options& options) {
  options.add_options()  //
      ("coco", "annotations of objects, COCO's instances.json", cxxopts::value<std::string>(),
       "FILE")  //
      ("detections", "coco: what was found, a file of COCO results", cxxopts::value<std::string>(),
       "FILE")  //
      ("report", "coco: also write an HTML page with curves and a table of categories",
       cxxopts::value<std::string>(), "FILE");
}

int run_coco(const cxxopts::ParseResult& args) {
  if (!args.count("detections")) throw UsageError("--coco needs --detections");
  check_outputs(args, {"report"});
  const CocoSet set = read_coco_set(args["coco"].as<std::string>());
  say(set.notes);
  const std::string path = args["detections"].as<std::string>();
  const CocoDetections detections = read_coco_detections(path, set);
  say(detections.notes);
  report_detections(args, set, detections, path);
  return 0;
}

}  // namespace vitrun
