#include "runtime/program/coco/coco_command.h"

#include <iostream>

#include "models/base/error.h"
#include "runtime/files/atomic_file.h"
#include "runtime/program/coco/coco_detector.h"
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

void evaluate_coco(const cxxopts::ParseResult& args, const CocoSource& source,
                   const CocoSource& reference) {
  check_outputs(args, {"report"});
  const CocoSet set = read_coco_set(args["coco"].as<std::string>());
  say(set.notes);
  const CocoDetections detections = source.detections(set);
  say(detections.notes);
  check_parts(set, detections);
  CocoReport report = make_coco_report(set, detections);
  if (reference.detections) add_coco_reference(reference.detections(set), report);
  if (args.count("json"))
    std::cout << coco_json(report).dump(2) << "\n";
  else
    std::cout << coco_table(report);
  if (args.count("report"))
    write_file(args["report"].as<std::string>(), coco_page(report, source.title));
}

int run_coco(const cxxopts::ParseResult& args) {
  if (args.count("detections") + args.count("model") != 1)
    throw UsageError("--coco needs --detections, or --model and --images");
  if (args.count("model")) {
    CocoSource reference;
    if (args.count("reference"))
      reference = detector_source(args, args["reference"].as<std::string>());
    evaluate_coco(args, detector_source(args, args["model"].as<std::string>()), reference);
    return 0;
  }
  for (const char* option : {"images", "reference", "limit", "embedding", "classes"})
    if (args.count(option)) throw UsageError(cat("--", option, " does not go with --detections"));
  const std::string path = args["detections"].as<std::string>();
  evaluate_coco(args, {path, [&](const CocoSet& set) { return read_coco_detections(path, set); }});
  return 0;
}

}  // namespace vitrun
