#include "runtime/vision/exif.h"

#include <algorithm>

#include "models/base/index.h"

namespace vitrun {
namespace {

// The parts of a file that may state an orientation.
struct Tags {
  Bytes exif, xmp;
};

constexpr std::string_view kExifName("Exif\0\0", 6);
constexpr std::string_view kXmpName("http://ns.adobe.com/xap/1.0/\0", 29);
constexpr std::string_view kPngXmpName("XML:com.adobe.xmp\0", 18);

// Keeps the first of several.
void keep(Bytes found, Bytes& tag) {
  if (tag.empty()) tag = found;
}

// Follows the segments up to the first scan.
Tags jpeg_tags(Bytes file) {
  Tags tags;
  size_t at = 2;
  while (at + 4 <= file.size() && file[at] == 0xFF) {
    const uint8_t kind = file[at + 1];
    if (kind == 0xFF) {  // a fill byte
      at++;
      continue;
    }
    if (kind == 0xDA || kind == 0xD9) break;
    if (kind <= 0x01 || (kind >= 0xD0 && kind <= 0xD8)) {  // a marker without payload
      at += 2;
      continue;
    }
    const size_t length = big16(file, at + 2);
    if (length < 2 || length > file.size() - at - 2) break;
    const Bytes payload = file.subspan(at + 4, length - 2);
    if (kind == 0xE1 && starts_with(payload, kExifName)) keep(payload, tags.exif);
    if (kind == 0xE1 && starts_with(payload, kXmpName)) keep(payload, tags.xmp);
    at += 2 + length;
  }
  return tags;
}

Tags png_tags(Bytes file) {
  Tags tags;
  size_t at = 8;
  while (at + 12 <= file.size()) {
    const size_t length = big32(file, at);
    if (length > file.size() - at - 12) break;
    const Bytes payload = file.subspan(at + 8, length);
    if (stands_at(file, at + 4, "eXIf")) keep(payload, tags.exif);
    // The byte after the name says whether the text is compressed.
    const bool plain = payload.size() > kPngXmpName.size() && payload[kPngXmpName.size()] == 0;
    if (stands_at(file, at + 4, "iTXt") && plain && starts_with(payload, kPngXmpName))
      keep(payload, tags.xmp);
    at += length + 12;
  }
  return tags;
}

Tags webp_tags(Bytes file) {
  Tags tags;
  size_t at = 12;
  while (at + 8 <= file.size()) {
    const size_t length = little32(file, at + 4);
    if (length > file.size() - at - 8) break;
    const Bytes payload = file.subspan(at + 8, length);
    if (stands_at(file, at, "EXIF")) keep(payload, tags.exif);
    if (stands_at(file, at, "XMP ")) keep(payload, tags.xmp);
    at += 8 + length + length % 2;
  }
  return tags;
}

// Returns the orientation in the first directory of an EXIF block, which is laid out as a TIFF
// file; 1 where it is none of the eight, 0 where none is stated.
int exif_orientation(Bytes block) {
  while (starts_with(block, kExifName)) block = block.subspan(kExifName.size());
  const bool little = starts_with(block, std::string_view("II*\0", 4));
  if (block.size() < 8 || (!little && !starts_with(block, std::string_view("MM\0*", 4)))) return 0;
  const auto word = [&](size_t at) { return little ? little16(block, at) : big16(block, at); };
  const auto number = [&](size_t at) { return little ? little32(block, at) : big32(block, at); };
  const size_t directory = number(4);
  if (directory > block.size() - 2) return 0;
  const size_t entries = std::min<size_t>(word(directory), (block.size() - directory - 2) / 12);
  int found = 0;
  for (size_t i = 0; i < entries; i++) {  // an entry is tag, type, count and value
    const size_t at = directory + 2 + 12 * i;
    constexpr uint32_t kOrientation = 0x0112, kShort = 3, kLong = 4;
    const uint32_t type = word(at + 2), count = number(at + 4);
    if (word(at) != kOrientation || count == 0 || (type != kShort && type != kLong)) continue;
    // Values of more than four bytes stand elsewhere; the first counts.
    const bool inside = count <= (type == kShort ? 2 : 1);
    const size_t place = inside ? at + 8 : number(at + 8);
    if (place > block.size() || block.size() - place < 4) continue;
    const uint32_t value = type == kShort ? word(place) : number(place);
    found = value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return found;
}

// Returns the digit after tiff:Orientation=" or tiff:Orientation> in an XMP packet; 0 for none.
int xmp_orientation(Bytes packet) {
  const std::string_view text(reinterpret_cast<const char*>(packet.data()), packet.size());
  constexpr std::string_view kName = "tiff:Orientation";
  for (size_t at = text.find(kName); at != text.npos; at = text.find(kName, at + 1)) {
    std::string_view rest = text.substr(at + kName.size());
    if (rest.starts_with("=\""))
      rest.remove_prefix(2);
    else if (rest.starts_with(">"))
      rest.remove_prefix(1);
    else
      continue;
    if (!rest.empty() && rest[0] >= '0' && rest[0] <= '9') return rest[0] - '0';
  }
  return 0;
}

}  // namespace

int orientation_of(Bytes file, ImageFormat format) {
  Tags tags;
  if (format == ImageFormat::kJpeg) tags = jpeg_tags(file);
  if (format == ImageFormat::kPng) tags = png_tags(file);
  if (format == ImageFormat::kWebp) tags = webp_tags(file);
  int found = exif_orientation(tags.exif);
  if (found == 0) found = xmp_orientation(tags.xmp);
  return found >= 1 && found <= 8 ? found : 1;
}

// Orientations from 5 on exchange rows and columns. The stored place of the upright pixel (x, y) is
// then (y, x), either of them counted from the other end where the orientation says so.
void turn_upright(int orientation, Image& image) {
  if (orientation <= 1 || orientation > 8) return;
  const bool transposed = orientation >= 5;
  const bool from_right = orientation == 2 || orientation == 3 || orientation >= 7;
  const bool from_bottom =
      orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  Image upright;
  upright.width = transposed ? image.height : image.width;
  upright.height = transposed ? image.width : image.height;
  upright.rgb.reserve(image.rgb.size());
  for (int y = 0; y < upright.height; y++) {
    for (int x = 0; x < upright.width; x++) {
      int column = transposed ? y : x, row = transposed ? x : y;
      if (from_right) column = image.width - 1 - column;
      if (from_bottom) row = image.height - 1 - row;
      const uint8_t* pixel =
          &image.rgb[3 * (array_size(row, image.width) + static_cast<size_t>(column))];
      upright.rgb.insert(upright.rgb.end(), pixel, pixel + 3);
    }
  }
  image = std::move(upright);
}

}  // namespace vitrun
