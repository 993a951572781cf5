#include "runtime/vision/image_format.h"

#include <algorithm>
#include <cstdio>

#include "models/base/error.h"

namespace vitrun {
namespace {

using namespace std::string_view_literals;

struct Signature {
  size_t at;
  std::string_view magic;
  const char* name;
};

// Formats that people have and that are not read; the first that fits counts.
constexpr Signature kRefused[] = {
    {4, "ftypavif"sv, "AVIF"},
    {4, "ftypavis"sv, "AVIF"},
    {4, "ftyphei"sv, "HEIC"},
    {4, "ftyphev"sv, "HEIC"},
    {4, "ftypmif1"sv, "HEIF"},
    {4, "ftypmsf1"sv, "HEIF"},
    {4, "ftypcrx"sv, "Canon raw (CR3)"},
    {4, "ftyp"sv, "MP4 or QuickTime"},
    {0, "II*\0"sv, "TIFF or camera raw"},
    {0, "MM\0*"sv, "TIFF or camera raw"},
    {0, "II+\0"sv, "BigTIFF"},
    {0, "MM\0+"sv, "BigTIFF"},
    {0, "II\xBC"sv, "JPEG XR"},
    {0, "8BPS"sv, "Photoshop (PSD)"},
    {0, "%PDF"sv, "PDF"},
    {0, "%!PS"sv, "PostScript"},
    {0, "\xFF\x0A"sv, "JPEG XL"},
    {4, "JXL \r\n\x87\n"sv, "JPEG XL"},
    {4, "jP  \r\n\x87\n"sv, "JPEG 2000"},
    {0, "\xFF\x4F\xFF\x51"sv, "JPEG 2000"},
    {0, "\0\0\1\0"sv, "icon (ICO)"},
    {0, "\0\0\2\0"sv, "cursor (CUR)"},
    {0, "icns"sv, "Apple icon (ICNS)"},
    {0, "\x76\x2F\x31\x01"sv, "OpenEXR"},
    {0, "#?RADIANCE"sv, "Radiance HDR"},
    {0, "DDS "sv, "DirectDraw surface (DDS)"},
    {0, "qoif"sv, "QOI"},
    {0, "BPG\xFB"sv, "BPG"},
    {128, "DICM"sv, "DICOM"},
    {0, "SIMPLE  ="sv, "FITS"},
    {0, "\x93NUMPY"sv, "NumPy array"},
    {0, "\x89HDF\r\n\x1A\n"sv, "HDF5"},
    {0, "\x1A\x45\xDF\xA3"sv, "Matroska or WebM video"},
    {0, "PK\x03\x04"sv, "ZIP"},
    {0, "\x1F\x8B"sv, "gzip"},
    {0, "RIFF"sv, "RIFF (AVI or WAV)"},
    {0, "version https://git-lfs"sv, "Git LFS pointer (fetch it with git lfs pull)"},
};

std::string lower_case(Bytes bytes) {
  std::string text(bytes.begin(), bytes.end());
  std::ranges::transform(text, text.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 'a' - 'A') : c;
  });
  return text;
}

// Names a text format by its first kilobyte; null for others.
const char* text_format(Bytes bytes) {
  const std::string text = lower_case(bytes.first(std::min<size_t>(bytes.size(), 1024)));
  size_t start = text.starts_with("\xEF\xBB\xBF") ? 3 : 0;
  start = std::min(text.find_first_not_of(" \t\r\n", start), text.size());
  if (text[start] == '<' && text.find("<svg") != text.npos) return "SVG";
  if (text.compare(start, 14, "<!doctype html") == 0 || text.compare(start, 5, "<html") == 0)
    return "HTML (a failed download?)";
  const bool portable = text.size() > 2 && text[0] == 'p' && text[1] >= '1' && text[1] <= '7';
  if (portable && (text[2] == '\n' || text[2] == ' ')) return "Netpbm (PBM, PGM, PPM)";
  return nullptr;
}

const char* refused_format(Bytes bytes) {
  for (const Signature& s : kRefused)
    if (stands_at(bytes, s.at, s.magic)) return s.name;
  return text_format(bytes);
}

}  // namespace

ImageFormat image_format(Bytes bytes, const std::string& where) {
  if (starts_with(bytes, "\xFF\xD8\xFF")) return ImageFormat::kJpeg;
  if (starts_with(bytes, "\x89PNG\r\n\x1A\n")) return ImageFormat::kPng;
  if (starts_with(bytes, "BM")) return ImageFormat::kBmp;
  if (starts_with(bytes, "GIF87a") || starts_with(bytes, "GIF89a")) return ImageFormat::kGif;
  if (starts_with(bytes, "RIFF") && stands_at(bytes, 8, "WEBP")) return ImageFormat::kWebp;
  const std::string expected = cat(where, ": expected a JPEG, PNG, WebP, BMP or GIF image, found ");
  if (const char* name = refused_format(bytes))
    fail(expected, "a file of another format, which is not read: ", name);
  std::string start;
  char digits[4];
  for (uint8_t byte : bytes.first(std::min<size_t>(bytes.size(), 8))) {
    std::snprintf(digits, sizeof digits, " %02x", byte);
    start += digits;
  }
  fail(expected, "a file that starts with", start);
}

}  // namespace vitrun
