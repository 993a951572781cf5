// Decoding against Pillow (golden/make_image.py), and files that are no images, each with its own
// message.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "models/base/error.h"
#include "runtime/files/crc32.h"
#include "runtime/vision/exif.h"
#include "runtime/vision/webp.h"

using namespace vitrun;

namespace {

using Buffer = std::vector<uint8_t>;

const std::string kFolder = std::string(VITRUN_TEST_DIR) + "/golden/image/";

Buffer read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  REQUIRE(file.good());
  return Buffer(std::istreambuf_iterator<char>(file), {});
}

Buffer sample(const std::string& name) {
  return read_file(kFolder + "decode/" + name);
}

Buffer first(Buffer bytes, size_t count) {
  bytes.resize(count);
  return bytes;
}

Buffer without_last(Buffer bytes, size_t count) {
  bytes.resize(bytes.size() - count);
  return bytes;
}

Buffer with_byte(Buffer bytes, size_t at, uint8_t value) {
  bytes.at(at) = value;
  return bytes;
}

Buffer text(const std::string& content) {
  return Buffer(content.begin(), content.end());
}

// A PNG whose header claims other dimensions, with the checksum that fits.
Buffer resized_png(uint32_t width, uint32_t height) {
  Buffer png = sample("rgb.png");
  for (size_t i = 0; i < 4; i++) {
    png[16 + i] = static_cast<uint8_t>(width >> (24 - 8 * i));
    png[20 + i] = static_cast<uint8_t>(height >> (24 - 8 * i));
  }
  const uint32_t crc = crc32(std::span(png).subspan(12, 17));
  for (size_t i = 0; i < 4; i++) png[29 + i] = static_cast<uint8_t>(crc >> (24 - 8 * i));
  return png;
}

// The place of the first marker of a kind in a JPEG.
Buffer::iterator marker_in(Buffer& jpeg, uint8_t kind) {
  const uint8_t marker[] = {0xFF, kind};
  const auto at = std::search(jpeg.begin(), jpeg.end(), marker, marker + 2);
  REQUIRE(at != jpeg.end());
  return at;
}

// A JPEG whose first Huffman table counts more codes than fit.
Buffer bad_huffman() {
  Buffer jpeg = sample("baseline.jpg");
  std::fill_n(marker_in(jpeg, 0xC4) + 5, 16, uint8_t{200});
  return jpeg;
}

// A JPEG without the segments of one kind, and without the coded data that follows a scan's.
Buffer without_segments(const Buffer& jpeg, uint8_t kind) {
  Buffer kept(jpeg.begin(), jpeg.begin() + 2);
  for (size_t at = 2; at + 3 < jpeg.size();) {
    size_t end = at + 2 + size_t{jpeg[at + 2]} * 256 + jpeg[at + 3];
    const auto codes = [&](size_t i) {
      return jpeg[i] != 0xFF || jpeg[i + 1] == 0 || (jpeg[i + 1] >= 0xD0 && jpeg[i + 1] <= 0xD7);
    };
    while (end + 1 < jpeg.size() && codes(end)) end++;
    if (jpeg[at + 1] != kind)
      kept.insert(kept.end(), jpeg.begin() + static_cast<ptrdiff_t>(at),
                  jpeg.begin() + static_cast<ptrdiff_t>(end));
    at = end;
  }
  kept.insert(kept.end(), {0xFF, 0xD9});
  return kept;
}

// A JPEG whose second component has the name of the first.
Buffer one_name() {
  Buffer jpeg = sample("baseline.jpg");
  const auto frame = marker_in(jpeg, 0xC0);
  frame[13] = frame[10];
  return jpeg;
}

// A CMYK JPEG without the marker that says so.
Buffer unmarked_cmyk() {
  Buffer jpeg = sample("cmyk.jpg");
  const std::string name = "Adobe";
  const auto at = std::search(jpeg.begin(), jpeg.end(), name.begin(), name.end());
  REQUIRE(at != jpeg.end());
  *at = 'X';
  return jpeg;
}

std::string refusal(const Buffer& bytes) {
  try {
    decode_image(bytes, "f");
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

std::string refusal_of_path(const std::string& path) {
  try {
    load_image(path);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("images decode to Pillow's pixels") {
  std::ifstream list(kFolder + "decode.txt");
  std::string name;
  int width, height, tolerance, files = 0;
  while (list >> name >> width >> height >> tolerance) {
    CAPTURE(name);
    files++;
    if (name.ends_with(".webp") && !reads_webp()) continue;
    const Image image = load_image(kFolder + "decode/" + name, Exif::kIgnore);
    CHECK(image.width == width);
    CHECK(image.height == height);
    const Buffer expected = sample(name + ".rgb");
    REQUIRE(image.rgb.size() == expected.size());
    int worst = 0;
    for (size_t i = 0; i < expected.size(); i++) {
      worst = std::max(worst, std::abs(image.rgb[i] - expected[i]));
    }
    CHECK(worst <= tolerance);
  }
  CHECK(files == 29);
}

TEST_CASE("photographs are turned as Pillow's exif_transpose turns them") {
  std::ifstream list(kFolder + "exif.txt");
  std::string name, hex;
  int width, height, tolerance, files = 0;
  while (list >> name >> width >> height >> tolerance >> hex) {
    CAPTURE(name);
    files++;
    if (name.ends_with(".webp") && !reads_webp()) continue;
    const Image image = load_image(kFolder + "exif/" + name);
    CHECK(image.width == width);
    CHECK(image.height == height);
    REQUIRE(2 * image.rgb.size() == hex.size());
    int worst = 0;
    for (size_t i = 0; i < image.rgb.size(); i++)
      worst =
          std::max(worst, std::abs(image.rgb[i] - std::stoi(hex.substr(2 * i, 2), nullptr, 16)));
    CHECK(worst <= tolerance);
  }
  CHECK(files == 23);
}

// Every byte of the file is overwritten in turn, and every length is tried.
TEST_CASE("damaged EXIF turns nothing or something, and is never followed outside") {
  for (const auto& [name, format] : {std::pair{"exif/6.png", ImageFormat::kPng},
                                     {"exif/second_segment.jpg", ImageFormat::kJpeg},
                                     {"exif/exif.webp", ImageFormat::kWebp}}) {
    const Buffer good = read_file(kFolder + name);
    CHECK(orientation_of(good, format) > 1);
    const auto check = [&, format = format](Buffer bytes) {
      bytes.shrink_to_fit();  // so that a sanitizer sees a read behind the end
      const int found = orientation_of(bytes, format);
      CHECK((found >= 1 && found <= 8));
    };
    for (size_t i = 0; i < good.size(); i++) {
      check(first(good, i));
      for (const uint8_t value : {uint8_t{0}, uint8_t{0x7F}, uint8_t{0xFF}})
        check(with_byte(good, i, value));
    }
  }
}

TEST_CASE("formats that are not read are refused by their names") {
  const std::pair<std::string, const char*> table[] = {
      {std::string("\0\0\0\x1c", 4) + "ftypavif", "AVIF"},
      {std::string("\0\0\0\x18", 4) + "ftypheic", "HEIC"},
      {std::string("\0\0\0\x18", 4) + "ftypisom", "MP4 or QuickTime"},
      {std::string("II*\0", 4), "TIFF or camera raw"},
      {std::string("MM\0*", 4), "TIFF or camera raw"},
      {"8BPS", "Photoshop (PSD)"},
      {"%PDF-1.7", "PDF"},
      {"<?xml version=\"1.0\"?>\n<svg xmlns=\"x\">", "SVG"},
      {"\n<SVG>", "SVG"},
      {"<!DOCTYPE html><html>", "HTML (a failed download?)"},
      {"\xFF\x0A", "JPEG XL"},
      {std::string("\0\0\0\x0CJXL \r\n\x87\n", 12), "JPEG XL"},
      {std::string("\0\0\0\x0CjP  \r\n\x87\n", 12), "JPEG 2000"},
      {std::string("\0\0\1\0", 4), "icon (ICO)"},
      {"P6\n2 2\n255\n", "Netpbm (PBM, PGM, PPM)"},
      {"\x1F\x8B\x08", "gzip"},
      {"RIFF\1\1\1\1AVI ", "RIFF (AVI or WAV)"},
      {"version https://git-lfs.github.com/spec/v1",
       "Git LFS pointer (fetch it with git lfs pull)"},
  };
  for (const auto& [bytes, name] : table)
    CHECK(refusal(text(bytes)) ==
          std::string("f: expected a JPEG, PNG, WebP, BMP or GIF image, found a file of another "
                      "format, which is not read: ") +
              name);
}

TEST_CASE("WebP files that are cut or lie about their size are refused") {
  if (!reads_webp()) {
    CHECK(refusal(sample("lossy.webp")) ==
          "f: WebP images are not read by this build, which was made without libwebp");
    return;
  }
  const Buffer lossy = sample("lossy.webp"), lossless = sample("lossless.webp"),
               alpha = sample("lossy_alpha.webp");
  for (size_t cut : {size_t{1}, lossy.size() / 2, lossy.size() - 20})
    CHECK(refusal(without_last(lossy, cut)).starts_with("f: truncated or damaged WebP file"));
  Buffer shorter = first(lossless, lossless.size() / 2 / 2 * 2);  // with chunks that fit again
  const auto put = [&](size_t at, size_t value) {
    for (size_t i = 0; i < 4; i++) shorter[at + i] = static_cast<uint8_t>(value >> 8 * i);
  };
  put(4, shorter.size() - 8), put(16, shorter.size() - 20);
  CHECK(refusal(shorter) == "f: damaged or truncated WebP image");
  REQUIRE(std::equal(alpha.begin() + 12, alpha.begin() + 16, "VP8X"));
  Buffer large = alpha;  // 2^24 x 2^24
  std::fill_n(large.begin() + 24, 6, uint8_t{0xFF});
  CHECK(refusal(large) != "no error");
}

TEST_CASE("bytes after the end of a JPEG are ignored") {
  Buffer bytes = sample("baseline.jpg");
  bytes.insert(bytes.end(), 100, 0xFF);
  CHECK(decode_image(bytes, "f").rgb == decode_image(sample("baseline.jpg"), "f").rgb);
}

TEST_CASE("what is not a whole image is refused with its reason") {
  struct Case {
    Buffer bytes;
    std::string message;
  };
  const Buffer png = sample("rgb.png"), jpeg = sample("baseline.jpg"), bmp = sample("rgb.bmp"),
               gif = sample("palette.gif");
  const std::string unknown =
      "f: expected a JPEG, PNG, WebP, BMP or GIF image, found a file that starts";
  const std::string limits = "f: expected sides of 1 to 32768 and at most 134217728 pixels, found ";
  const Case cases[] = {
      {{}, "f: expected an image, found an empty file"},
      {text("hello"), unknown + " with 68 65 6c 6c 6f"},
      {Buffer(20), unknown + " with 00 00 00 00 00 00 00 00"},
      {with_byte(png, 1, 'p'), unknown + " with 89 70 4e 47 0d 0a 1a 0a"},
      {text("\xFF\xD8"), unknown + " with ff d8"},
      {without_last(jpeg, 1), "f: truncated JPEG file: no end-of-image marker"},
      {without_last(jpeg, 200), "f: truncated JPEG file: no end-of-image marker"},
      {first(jpeg, 10), "f: truncated JPEG file: a segment ends after the file"},
      {first(jpeg, 5), "f: truncated JPEG file: a segment has no length"},
      {text("\xFF\xD8\xFF\xD9"), "f: damaged or unsupported image header"},
      {bad_huffman(), "f: damaged JPEG Huffman table"},
      {without_segments(sample("baseline.jpg"), 0xC4),
       "f: damaged JPEG: a scan uses a Huffman table not defined before"},
      {without_segments(sample("progressive.jpg"), 0xC4),
       "f: damaged JPEG: a scan uses a Huffman table not defined before"},
      {without_segments(sample("baseline.jpg"), 0xDB),
       "f: damaged JPEG: a scan uses a quantization table not defined before"},
      {without_segments(sample("progressive.jpg"), 0xDA),
       "f: damaged JPEG: expected coded data of component 1, found none"},
      {one_name(), "f: damaged JPEG: two components are called 1"},
      {resized_png(0xFFFFFFFF, 0xFFFFFFFF), limits + "4294967295x4294967295"},
      {unmarked_cmyk(),
       "f: JPEG with four components: expected an Adobe marker that says which colours they are, "
       "found none"},
      {first(png, 8), "f: truncated PNG file: no IEND chunk"},
      {without_last(png, 12), "f: truncated PNG file: no IEND chunk"},
      {first(png, 100), "f: truncated PNG file: a chunk ends after the file"},
      {resized_png(0, 13), limits + "0x13"},
      {resized_png(40000, 13), limits + "40000x13"},
      {resized_png(32768, 32767), limits + "32768x32767"},
      {resized_png(20, 13), "f: damaged or unsupported image: not enough pixels"},
      {first(bmp, 20), "f: damaged or unsupported image header"},
      {without_last(bmp, 1), "f: truncated BMP file: the pixels end after the file"},
      {first(gif, 12), "f: truncated GIF file: the first frame ends after the file"},
      {without_last(gif, 10), "f: truncated GIF file: the first frame ends after the file"},
      {with_byte(gif, 13 + 48, 0x3B), "f: GIF file without a frame"},
  };
  for (const Case& c : cases) CHECK(refusal(c.bytes) == c.message);
  CHECK(refusal(without_segments(jpeg, 0xFE)) == "no error");
}

TEST_CASE("a flipped bit in a PNG is found by its checksum") {
  const Buffer png = sample("rgb.png");
  const std::string message = refusal(with_byte(png, 60, png[60] ^ 1));
  CHECK(message.starts_with("f: PNG chunk at byte 33: expected checksum "));
}

TEST_CASE("paths that are no readable files are refused") {
  CHECK(refusal_of_path(kFolder) == kFolder + ": expected a regular file, found a directory");
  CHECK(refusal_of_path(kFolder + "none.png") ==
        kFolder + "none.png: cannot open: No such file or directory");
  CHECK(refusal_of_path("/dev/null") ==
        "/dev/null: expected a regular file, found a pipe or device");
}
