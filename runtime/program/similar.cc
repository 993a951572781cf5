#include "runtime/program/similar.h"

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>

#include "models/base/error.h"
#include "models/base/index.h"
#include "runtime/files/atomic_file.h"
#include "runtime/program/cli.h"
#include "runtime/program/embeddings.h"
#include "runtime/program/html.h"
#include "runtime/vision/encode_image.h"

namespace vitrun {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

struct Query {
  std::string image, text;  // one of the two
  const std::string& name() const { return text.empty() ? image : text; }
};

struct Match {
  std::string path;
  double cosine;
};

struct Answer {
  Query query;
  std::vector<Match> matches;  // the closest first
  size_t images = 0;           // that were compared
  std::vector<UnreadImage> unread;
};

Query query_of(const cxxopts::ParseResult& args) {
  if (args.count("similar") && args.count("search"))
    throw UsageError("give --similar IMAGE or --search TEXT, not both");
  if (!args.count("image")) throw UsageError("name the images to search, or a folder of them");
  for (const char* other : {"raw", "demo", "classes", "logits", "embedding", "features"})
    if (args.count(other)) throw UsageError(cat("a search has no --", other));
  if (args.count("similar")) return {args["similar"].as<std::string>(), ""};
  return {"", args["search"].as<std::string>()};
}

// The images among which to search, without the query's own file.
std::vector<Sample> candidates(const std::vector<std::string>& paths, const Query& query) {
  std::vector<Sample> samples = named_images(paths);
  std::erase_if(samples, [&](const Sample& s) {
    std::error_code unlike;
    return query.text.empty() && fs::equivalent(s.path, query.image, unlike);
  });
  if (samples.empty()) fail("there is no image to compare with but the query itself");
  return samples;
}

// The query's embedding, [1, D].
Tensor embed_query(const Query& query, Predictor& model, ImageLoader& loader) {
  if (!query.text.empty()) return model.text().embed({query.text});
  const Tensor image = loader.load_all({{query.image, -1}}, 0, 1);
  return std::move(model.run(image, {"embedding"})[0]);
}

Answer search(const Query& query, Predictor& model, ImageLoader& loader,
              const std::vector<Sample>& samples, size_t batch, size_t most) {
  const Tensor wanted = embed_query(query, model, loader);
  Embeddings e;
  {
    ProgressBar bar("embedding images");
    e = embed(model, nullptr, loader, samples, batch, [&](double done) { bar.update(done); });
  }
  Answer answer{query, {}, e.read.size(), e.unread};
  const std::vector<Neighbour> order = neighbours(e.values, wanted);
  for (size_t i = 0; i < std::min(order.size(), most); i++)
    answer.matches.push_back({samples[e.read[order[i].row]].path, order[i].cosine});
  return answer;
}

void print_text(const Answer& a) {
  for (const Match& m : a.matches) std::printf("%.4f  %s\n", m.cosine, m.path.c_str());
}

void print_json(const Answer& a, const Predictor& model) {
  Json j = {{"model", model.info().arch},
            {"engine", model.engine()},
            {a.query.text.empty() ? "similar" : "search", a.query.name()},
            {"compared", a.images},
            {"images", Json::array()},
            {"skipped", a.unread.size()}};
  for (const Match& m : a.matches) j["images"].push_back({{"image", m.path}, {"cosine", m.cosine}});
  std::cout << j.dump(2, ' ', false, Json::error_handler_t::replace) << "\n";
}

// A picture as an <img>, scaled so that its longer side is at most `side` pixels.
std::string thumbnail(const std::string& path, int side, Exif exif) {
  const Image image = load_image(path, exif);
  const double scale = std::min(1.0, double(side) / std::max(image.width, image.height));
  Image small{std::max(1, static_cast<int>(image.width * scale)),
              std::max(1, static_cast<int>(image.height * scale)),
              {}};
  small.rgb.resize(3 * array_size(small.width, small.height));
  PreprocessScratch scratch;
  resize_window(view_of(image), small.width, small.height, {0, 0, small.width, small.height},
                PreprocessConfig::Resize::kBilinear, small.rgb, scratch);
  return cat("<img alt=\"\" title=\"", escape_html(path), "\" src=\"",
             data_uri("image/jpeg", encode_jpeg(small, 85)), "\">");
}

std::string page(const Answer& a, const Predictor& model, Exif exif) {
  const bool text = !a.query.text.empty();
  std::string body =
      cat("<h1>", text ? "Images for a text" : "Similar images", "</h1><p>The closest ",
          a.matches.size(), " of ", a.images, " images by the cosine of their embeddings, from ",
          escape_html(model.info().arch), " (", escape_html(model.engine()), ").</p>");
  body += cat("<figure><figcaption><b>", escape_html(a.query.name()), "</b></figcaption>",
              text ? "" : thumbnail(a.query.image, 320, exif), "</figure><h2>Closest first</h2>");
  body += "<div class=\"grid\">\n";
  for (const Match& m : a.matches)
    body += cat("<figure><figcaption><b>", fixed(m.cosine, 3), "</b> ",
                escape_html(fs::path(m.path).filename().string()), "</figcaption>",
                thumbnail(m.path, 160, exif), "</figure>\n");
  return html_page(cat("Similar to ", a.query.name()), body + "</div>");
}

}  // namespace

void add_similar_options(cxxopts::Options& options) {
  options.add_options()  //
      ("similar", "search the images, or folders of images, for those similar to this one",
       cxxopts::value<std::string>(), "IMAGE")  //
      ("search", "search them by a text, with a model of images and texts",
       cxxopts::value<std::string>(), "TEXT")  //
      ("report", "a search: also write an HTML page that shows what was found",
       cxxopts::value<std::string>(), "FILE");
}

bool asks_for_similar(const cxxopts::ParseResult& args) {
  return args.count("similar") + args.count("search") > 0;
}

int find_similar(const cxxopts::ParseResult& args, Predictor& model) {
  constexpr size_t kShown = 20;
  const Query query = query_of(args);
  check_outputs(args, {"report"});
  const Exif exif = exif_option(args);
  ImageLoader loader(model.info(), exif);
  const auto samples = candidates(args["image"].as<std::vector<std::string>>(), query);
  const auto most =
      args.count("topk") ? static_cast<size_t>(int_option(args, "topk", 1, 100000)) : kShown;
  const Answer answer = search(query, model, loader, samples,
                               static_cast<size_t>(int_option(args, "batch", 1, 4096)), most);
  std::cerr << unread_note(answer.unread);
  if (args.count("json"))
    print_json(answer, model);
  else
    print_text(answer);
  if (args.count("report")) write_file(args["report"].as<std::string>(), page(answer, model, exif));
  return answer.unread.empty() ? 0 : 1;
}

}  // namespace vitrun
