#include "runtime/program/detect/draw_detections.h"

#include <algorithm>
#include <cmath>

#include "models/base/error.h"
#include "models/base/index.h"
#include "runtime/program/detect/glyphs.h"
#include "runtime/program/html.h"

namespace vitrun {
namespace {

struct Color {
  int red, green, blue;
};

// Okabe and Ito's palette without black.
constexpr Color kPalette[] = {{0, 114, 178}, {230, 159, 0},  {0, 158, 115}, {204, 121, 167},
                              {213, 94, 0},  {240, 228, 66}, {86, 180, 233}};
constexpr Color kBlack = {0, 0, 0}, kWhite = {255, 255, 255};

Color color_of(size_t detection) {
  return kPalette[detection % std::size(kPalette)];
}

// Black or white, whichever can be read on a colour.
Color text_on(Color c) {
  return 299 * c.red + 587 * c.green + 114 * c.blue > 120000 ? kBlack : kWhite;
}

struct Area {
  int x1, y1, x2, y2;  // x2 and y2 are beyond it

  bool empty() const { return x1 >= x2 || y1 >= y2; }
  bool overlaps(const Area& o) const { return x1 < o.x2 && o.x1 < x2 && y1 < o.y2 && o.y1 < y2; }
};

// The nearest of 0..limit, whatever v is.
int clamped(double v, int limit) {
  return v > 0 ? static_cast<int>(std::min(v, static_cast<double>(limit))) : 0;
}

class Canvas {
 public:
  explicit Canvas(Image& image) : image_(image) {}

  int width() const { return image_.width; }
  int height() const { return image_.height; }
  int shorter_side() const { return std::min(width(), height()); }

  void fill(Area area, Color c) {
    area = {std::max(area.x1, 0), std::max(area.y1, 0), std::min(area.x2, width()),
            std::min(area.y2, height())};
    for (int y = area.y1; y < area.y2; y++)
      for (int x = area.x1; x < area.x2; x++) put(pixel(x, y), c);
  }

  void frame(const Area& a, int thick, Color c) {
    fill({a.x1, a.y1, a.x2, std::min(a.y1 + thick, a.y2)}, c);
    fill({a.x1, std::max(a.y2 - thick, a.y1), a.x2, a.y2}, c);
    fill({a.x1, a.y1, std::min(a.x1 + thick, a.x2), a.y2}, c);
    fill({std::max(a.x2 - thick, a.x1), a.y1, a.x2, a.y2}, c);
  }

  // Mixes the pixels of a mask with a colour, half and half.
  void blend(const Rle& mask, Color c) {
    int64_t place = 0;
    bool inside = false;
    for (uint32_t count : mask.counts) {
      if (inside)
        for (int64_t i = place; i < place + count; i++)
          mix(pixel(static_cast<int>(i / height()), static_cast<int>(i % height())), c);
      place += count;
      inside = !inside;
    }
  }

  void glyph(const Glyph& rows, int left, int top, int scale, Color c) {
    for (int y = 0; y < kGlyphHeight; y++)
      for (int x = 0; x < kGlyphWidth; x++)
        if (rows[static_cast<size_t>(y)] >> (kGlyphWidth - 1 - x) & 1)
          fill({left + scale * x, top + scale * y, left + scale * (x + 1), top + scale * (y + 1)},
               c);
  }

 private:
  uint8_t* pixel(int x, int y) {
    return image_.rgb.data() + 3 * (array_size(y, width()) + array_size(x));
  }
  static void put(uint8_t* p, Color c) {
    p[0] = static_cast<uint8_t>(c.red);
    p[1] = static_cast<uint8_t>(c.green);
    p[2] = static_cast<uint8_t>(c.blue);
  }
  static void mix(uint8_t* p, Color c) {
    put(p, {(p[0] + c.red + 1) / 2, (p[1] + c.green + 1) / 2, (p[2] + c.blue + 1) / 2});
  }

  Image& image_;
};

// The text on a detection, and the area that it takes.
struct Label {
  std::vector<Glyph> glyphs;
  int scale, width, height;
};

// Texts have a pixel (of the font) around them and between characters.
int text_width(size_t characters, int scale) {
  return scale * (1 + static_cast<int>(characters) * (kGlyphWidth + 1));
}

// Pixels of the image for one of the font, which is also how thick lines are.
int text_scale(const Canvas& canvas) {
  return std::min(1 + canvas.shorter_side() / 400, 24);
}

// Shortens the name, not the score, and makes it smaller only where even that does not fit.
Label label_of(const DrawnDetection& d, const Canvas& canvas) {
  std::vector<Glyph> name = glyphs_of(d.label);
  const std::vector<Glyph> score = glyphs_of((d.label.empty() ? "" : " ") + fixed(d.score, 2)),
                           dots = glyphs_of("..");
  int scale = text_scale(canvas);
  while (scale > 1 && text_width(6 + score.size(), scale) > canvas.width()) scale--;
  const int room = canvas.width() / scale / (kGlyphWidth + 1) - count_of(score);
  if (count_of(name) > room) {
    name.resize(static_cast<size_t>(std::max(room - count_of(dots), 0)));
    name.insert(name.end(), dots.begin(), dots.end());
  }
  name.insert(name.end(), score.begin(), score.end());
  const int width = text_width(name.size(), scale);
  return {std::move(name), scale, width, scale * (kGlyphHeight + 2)};
}

// The area of a box in the image.
Area area_of(const DrawnDetection& d, const Canvas& canvas) {
  return {clamped(std::floor(d.x1), canvas.width()), clamped(std::floor(d.y1), canvas.height()),
          clamped(std::ceil(d.x2), canvas.width()), clamped(std::ceil(d.y2), canvas.height())};
}

// Finds places for labels: above their box, inside of it, below it or at its foot, wherever none is
// yet.
class LabelPlaces {
 public:
  explicit LabelPlaces(const Canvas& canvas) : canvas_(canvas) {}

  Area place(const Label& label, const Area& box) {
    std::vector<Area> choices;
    for (int y : {box.y1 - label.height, box.y1, box.y2, box.y2 - label.height})
      choices.push_back(inside(label, box.x1, y));
    const auto is_free = [&](const Area& a) {
      return std::ranges::none_of(taken_, [&](const Area& b) { return a.overlaps(b); });
    };
    const auto free = std::ranges::find_if(choices, is_free);
    taken_.push_back(free == choices.end() ? choices.front() : *free);
    return taken_.back();
  }

 private:
  Area inside(const Label& label, int x, int y) const {
    x = std::max(0, std::min(x, canvas_.width() - label.width));
    y = std::max(0, std::min(y, canvas_.height() - label.height));
    return {x, y, x + label.width, y + label.height};
  }

  const Canvas& canvas_;
  std::vector<Area> taken_;
};

void draw_label(Canvas& canvas, const Label& label, const Area& area, Color color) {
  canvas.fill(area, color);
  int left = area.x1 + label.scale;
  for (const Glyph& glyph : label.glyphs) {
    canvas.glyph(glyph, left, area.y1 + label.scale, label.scale, text_on(color));
    left += label.scale * (kGlyphWidth + 1);
  }
}

void draw_masks(const std::vector<DrawnDetection>& detections, Canvas& canvas) {
  for (size_t i = detections.size(); i-- > 0;) {
    const Rle& mask = detections[i].mask;
    if (mask.counts.empty()) continue;
    if (mask.height != canvas.height() || mask.width != canvas.width())
      fail("a mask of ", mask.height, "x", mask.width, " on an image of ", canvas.height(), "x",
           canvas.width());
    canvas.blend(mask, color_of(i));
  }
}

void draw_labels(const std::vector<DrawnDetection>& detections, Canvas& canvas) {
  struct Placed {
    Label label;
    Area area;
    Color color;
  };
  LabelPlaces places(canvas);
  std::vector<Placed> labels;
  for (size_t i = 0; i < detections.size(); i++) {
    const Label label = label_of(detections[i], canvas);
    if (label.width > canvas.width() || label.height > canvas.height()) continue;
    labels.push_back({label, places.place(label, area_of(detections[i], canvas)), color_of(i)});
  }
  for (size_t i = labels.size(); i-- > 0;)
    draw_label(canvas, labels[i].label, labels[i].area, labels[i].color);
}

}  // namespace

void draw_detections(const std::vector<DrawnDetection>& detections, Image& image) {
  Canvas canvas(image);
  draw_masks(detections, canvas);
  const int thick = text_scale(canvas);
  for (size_t i = detections.size(); i-- > 0;)
    canvas.frame(area_of(detections[i], canvas), thick, color_of(i));
  draw_labels(detections, canvas);
}

}  // namespace vitrun
