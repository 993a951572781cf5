#include "runtime/vision/jpeg.h"

#include <algorithm>
#include <array>
#include <map>
#include <numeric>

#include "models/base/error.h"
#include "runtime/vision/image.h"

namespace vitrun {
namespace {

// Markers, ITU-T T.81 table B.1.
enum Marker : uint8_t {
  kBaseline = 0xC0,
  kExtended = 0xC1,
  kProgressive = 0xC2,
  kHuffmanTables = 0xC4,
  kRestart0 = 0xD0,
  kStartOfImage = 0xD8,
  kEndOfImage = 0xD9,
  kStartOfScan = 0xDA,
  kQuantizationTables = 0xDB,
  kAdobe = 0xEE,
};

class JpegChecker {
 public:
  JpegChecker(Bytes bytes, const std::string& where) : bytes_(bytes), where_(where) {}

  // Follows the markers to the end of the image. In the coded data of a scan every 0xFF is
  // followed by 0 or a restart marker.
  void check() {
    size_t at = 2;
    while (true) {
      const auto marker =
          std::find(bytes_.begin() + static_cast<ptrdiff_t>(at), bytes_.end(), 0xFF);
      at = static_cast<size_t>(marker - bytes_.begin()) + 1;
      if (at >= bytes_.size()) fail_truncated(where_, "JPEG", "no end-of-image marker");
      const uint8_t kind = bytes_[at];
      if (kind == 0xFF) continue;  // a fill byte
      at++;
      if (kind == kEndOfImage) break;
      if (kind <= 0x01 || (kind >= kRestart0 && kind <= kStartOfImage)) continue;  // no payload
      if (bytes_.size() - at < 2) fail_truncated(where_, "JPEG", "a segment has no length");
      const size_t length = big16(bytes_, at);
      if (length > bytes_.size() - at)
        fail_truncated(where_, "JPEG", "a segment ends after the file");
      if (length > 2) check_segment(kind, bytes_.subspan(at + 2, length - 2));
      at += length;
    }
    check_components();
  }

 private:
  struct Component {
    int quantization_table = 0;
    bool scanned = false;  // a scan has begun that sets every coefficient of a low frequency
  };

  // `payload` is what follows the length of a segment.
  void check_segment(uint8_t kind, Bytes payload) {
    if (kind >= kBaseline && kind <= kProgressive) take_frame(payload, kind == kProgressive);
    if (kind == kHuffmanTables) take_huffman_tables(payload);
    if (kind == kQuantizationTables) take_quantization_tables(payload);
    if (kind == kStartOfScan) check_scan(payload);
    if (kind == kAdobe && payload.size() >= 12) adobe_ = starts_with(payload, "Adobe");
  }

  // P, Y (2 bytes), X (2), Nf, then C, H and V, Tq for each component (B.2.2).
  void take_frame(Bytes payload, bool progressive) {
    if (payload.size() < 6) return;  // the decoder refuses it
    check_image_size(static_cast<int64_t>(big16(payload, 3)),
                     static_cast<int64_t>(big16(payload, 1)), where_);
    progressive_ = progressive;
    for (size_t at = 6; at + 3 <= payload.size(); at += 3) {
      const Component component{payload[at + 2]};
      if (!components_.emplace(payload[at], component).second)
        fail(where_, ": damaged JPEG: two components are called ", int{payload[at]});
    }
  }

  // Tc and Th, the counts of codes of 1 to 16 bits, then the values of the codes (B.2.4.2).
  // stb_image 2.27 writes past its table when there are more than 256 codes, and takes the 256th
  // for its mark of a missing one; the symbols of 8-bit samples are fewer.
  void take_huffman_tables(Bytes payload) {
    size_t at = 0;
    while (at < payload.size()) {
      size_t codes = 256;
      const uint8_t table = payload[at];
      if (payload.size() - at >= 17) {
        const Bytes counts = payload.subspan(at + 1, 16);
        codes = std::accumulate(counts.begin(), counts.end(), size_t{0});
        at += 17;
      }
      if (codes > 255 || codes > payload.size() - at) fail(where_, ": damaged JPEG Huffman table");
      at += codes;
      huffman_.at(table >> 4 ? 1 : 0).at(table & 15) = true;
    }
  }

  // Pq and Tq, then 64 values of 1 or 2 bytes (B.2.4.1).
  void take_quantization_tables(Bytes payload) {
    for (size_t at = 0; at < payload.size(); at += payload[at] >> 4 ? 129 : 65)
      quantization_.at(payload[at] & 15) = true;
  }

  // Ns, then Cs, Td and Ta for each component of the scan, then Ss, Se, Ah and Al (B.2.3).
  void check_scan(Bytes payload) {
    const size_t count = payload.empty() ? 0 : payload[0];
    if (payload.size() < 4 + 2 * count) return;  // the decoder refuses it
    const uint8_t first_frequency = payload[1 + 2 * count];
    const bool refines = payload[3 + 2 * count] >> 4 != 0;
    for (size_t i = 0; i < count; i++) {
      const auto component = components_.find(payload[1 + 2 * i]);
      if (component == components_.end()) continue;  // the decoder refuses it
      const uint8_t tables = payload[2 + 2 * i];
      const bool low = !progressive_ || first_frequency == 0;
      const bool high = !progressive_ || first_frequency != 0;
      if (low && !refines) {
        need(huffman_[0].at(tables >> 4), "Huffman");
        component->second.scanned = true;
      }
      if (high) need(huffman_[1].at(tables & 15), "Huffman");
      need(component->second.quantization_table < 16 &&
               quantization_.at(static_cast<size_t>(component->second.quantization_table)),
           "quantization");
    }
  }

  void need(bool defined, const char* kind) const {
    if (!defined) fail(where_, ": damaged JPEG: a scan uses a ", kind, " table not defined before");
  }

  void check_components() const {
    for (const auto& [id, component] : components_) {
      if (!component.scanned)
        fail(where_, ": damaged JPEG: expected coded data of component ", int{id}, ", found none");
    }
    if (components_.size() == 4 && !adobe_) {
      fail(where_,
           ": JPEG with four components: expected an Adobe marker that says which colours "
           "they are, found none");
    }
  }

  const Bytes bytes_;
  const std::string& where_;
  bool progressive_ = false, adobe_ = false;
  std::map<uint8_t, Component> components_;           // by Cs
  std::array<std::array<bool, 16>, 2> huffman_ = {};  // DC and AC; by Th, whether it is defined
  std::array<bool, 16> quantization_ = {};            // by Tq, whether it is defined
};

}  // namespace

void check_jpeg(Bytes bytes, const std::string& where) {
  JpegChecker(bytes, where).check();
}

}  // namespace vitrun
