#include "runtime/vision/webp.h"

#include "models/base/error.h"
#include "models/base/index.h"

#ifdef VITRUN_WEBP
#include <webp/decode.h>
#include <webp/demux.h>

#include <memory>
#endif

namespace vitrun {

#ifdef VITRUN_WEBP
namespace {

// The first frame of a file whose chunks are all there.
class FirstFrame {
 public:
  FirstFrame(Bytes bytes, const std::string& where)
      : bytes_{bytes.data(), bytes.size()}, demuxer_(WebPDemux(&bytes_), WebPDemuxDelete) {
    if (!demuxer_) fail(where, ": truncated or damaged WebP file: its chunks do not fit");
    if (!WebPDemuxGetFrame(demuxer_.get(), 1, &frame_)) fail(where, ": WebP file without a frame");
  }
  FirstFrame(const FirstFrame&) = delete;
  FirstFrame& operator=(const FirstFrame&) = delete;
  ~FirstFrame() { WebPDemuxReleaseIterator(&frame_); }

  WebpSize canvas() const {
    return {WebPDemuxGetI(demuxer_.get(), WEBP_FF_CANVAS_WIDTH),
            WebPDemuxGetI(demuxer_.get(), WEBP_FF_CANVAS_HEIGHT)};
  }
  const WebPIterator& frame() const { return frame_; }

 private:
  WebPData bytes_;
  std::unique_ptr<WebPDemuxer, decltype(&WebPDemuxDelete)> demuxer_;
  WebPIterator frame_ = {};
};

// Whether the frame's coded pixels say the size that its place in the canvas has.
bool has_stated_size(const WebPIterator& frame, const WebpSize& canvas) {
  WebPBitstreamFeatures features;
  const WebPData& data = frame.fragment;
  return WebPGetFeatures(data.bytes, data.size, &features) == VP8_STATUS_OK &&
         features.width == frame.width && features.height == frame.height &&
         int64_t{frame.x_offset} + frame.width <= canvas.width &&
         int64_t{frame.y_offset} + frame.height <= canvas.height;
}

}  // namespace

bool reads_webp() {
  return true;
}

WebpSize webp_size(Bytes bytes, const std::string& where) {
  return FirstFrame(bytes, where).canvas();
}

Image decode_webp(Bytes bytes, const std::string& where) {
  const FirstFrame first(bytes, where);
  const WebpSize canvas = first.canvas();
  const WebPIterator& frame = first.frame();
  if (!has_stated_size(frame, canvas))
    fail(where, ": damaged WebP file: its frame has not the size that the file states");
  Image image{static_cast<int>(canvas.width), static_cast<int>(canvas.height), {}};
  image.rgb.resize(3 * array_size(image.width, image.height));
  const int stride = 3 * image.width;
  const size_t begin = 3 * static_cast<size_t>(frame.x_offset) +
                       static_cast<size_t>(stride) * static_cast<size_t>(frame.y_offset);
  if (!WebPDecodeRGBInto(frame.fragment.bytes, frame.fragment.size, image.rgb.data() + begin,
                         image.rgb.size() - begin, stride))
    fail(where, ": damaged or truncated WebP image");
  return image;
}
#else
bool reads_webp() {
  return false;
}

WebpSize webp_size(Bytes, const std::string& where) {
  fail(where, ": WebP images are not read by this build, which was made without libwebp");
}

Image decode_webp(Bytes bytes, const std::string& where) {
  webp_size(bytes, where);
  return {};
}
#endif

}  // namespace vitrun
