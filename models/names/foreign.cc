#include "models/names/foreign.h"

#include <algorithm>
#include <cctype>

#include "models/base/error.h"

namespace vitrun {
namespace {

// --- files ------------------------------------------------------------------------------------

constexpr const char* kConvert =
    "; convert it: python3 -c \"import torch, safetensors.torch as s; s.save_file({k: "
    "v.contiguous() for k, v in torch.load('IN').items()}, 'OUT.safetensors')\"";

struct Magic {
  std::string_view bytes;
  const char* text;
  size_t offset = 0;
};

constexpr Magic kMagics[] = {
    {"version https://git-lfs", "a Git LFS pointer, not the file; fetch it with `git lfs pull`"},
    {"GGUF", "a GGUF file (llama.cpp)"},
    {"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras .h5)"},
    {"TFL3", "a TFLite model", 4},
    {"\x1f\x8b", "a gzip archive; unpack it"},
    {"\x93NUMPY", "a NumPy array"},
    {"\x89QBN\r\n", "a .qbin, which is quantized already"},
    {"\xff\xd8\xff", "a JPEG picture"},
    {"\x89PNG\r\n", "a PNG picture"},
    {"ftrt", "a TensorRT engine"},
    {"{", "JSON, not weights; give the .safetensors, its folder or model.safetensors.index.json"},
};

// Whether the file is a serialised ONNX ModelProto: field 1 (the version, a small number), then
// another field of it. A .safetensors has '{' where its header begins.
bool is_onnx(std::string_view bytes) {
  constexpr std::string_view fields = "\x12\x1a\x22\x28\x32\x3a\x42";
  return bytes.size() > 16 && bytes[0] == '\x08' && bytes[1] > 0 && bytes[1] < 32 &&
         fields.find(bytes[2]) != fields.npos && bytes[8] != '{';
}

// Whether the file begins with a protocol that pickle has. So does a .safetensors whose header has
// as many bytes, but for the '{' where that begins.
bool is_pickle(std::string_view bytes) {
  return bytes.size() > 1 && bytes[0] == '\x80' && bytes[1] >= 2 && bytes[1] <= 5 &&
         (bytes.size() < 9 || bytes[8] != '{' || bytes[7] != 0);
}

bool is_html(std::string_view bytes) {
  const size_t begin = bytes.substr(0, 64).find_first_not_of(" \t\r\n\xef\xbb\xbf");
  if (begin == bytes.npos) return false;
  std::string text(bytes.substr(begin, 9));
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text.starts_with("<!doctype") || text.starts_with("<html") || text.starts_with("<?xml");
}

std::string zip_text(std::string_view bytes) {
  const std::string_view first = bytes.substr(0, 256);  // which holds the first entry's name
  if (first.find(".npy") != first.npos) return "a NumPy .npz archive";
  if (first.find("metadata.json") != first.npos) return "a Keras archive";
  return cat("a zip archive, mostly a PyTorch .pt, .pth or .bin", kConvert);
}

// --- models -----------------------------------------------------------------------------------

// A family, or a part of one, that vitrun does not run. `types` are the beginnings of
// transformers' model_type and of timm's architecture that name it; one that starts with '*' may
// stand anywhere. `tensors` are parts of tensor names that only it has. The first line that fits
// counts.
struct Foreign {
  const char* name;
  const char* types;
  const char* tensors;
};

constexpr Foreign kForeign[] = {
    {"LoRA or adapter weights alone or unmerged (merge_and_unload() of peft merges them)", "",
     "lora_ .base_layer. adapter_down modules_to_save"},
    {"weights quantized by bitsandbytes", "", ".SCB .weight_format .absmax .quant_state"},
    {"weights quantized by GPTQ or AWQ", "", ".qweight .qzeros .g_idx"},
    {"weights quantized to 8 bits", "", ".weight_scale .input_scale .weight_packed"},
    {"SwinV2-CR", "swinv2_cr", "meta_mlp."},
    {"BLIP", "blip instructblip", "qformer text_decoder"},
    {"a CLIP with another text tower", "chinese_clip altclip clipseg", ""},
    {"SigLIP 2 for images of any shape (NaFlex)", "siglip2 siglip2_vision_model", ""},
    {"data2vec", "data2vec-vision", ""},
    {"EVA-02 of its own repository (timm has the same models)", "",
     "attn.inner_attn_ln ffn_ln mlp.w1."},
    {"a ViT whose attention and MLP run in parallel", "*_xp_ vit_pwee vit_dpwee",
     "in_norm. attn_out_proj."},
    {"a ViT with differential attention", "vit_dwee vit_dlittle", "attn.lambda_q1"},
    {"a ViT with relative positions in timm's RelPosBias", "",
     "rel_pos.relative_position_bias_table"},
    {"a ViT for images of any shape (NaFlexViT)", "naflexvit", "embeds.proj. embeds.pos_embed"},
    {"a ViT on convolutions (hybrid)", "vit_hybrid *_r50_ *_r26_ *_r_s16 *_resnet",
     "embed.backbone bit.enc"},
    {"InternViT of its own repository (timm has the same models)", "intern_vit", ""},
    {"torchvision's ViT (timm has the same models)", "", "encoder_layer_ conv_proj."},
    {"torchvision's Swin (timm has the same models)", "", "features.1.0.attn."},
    {"Hiera", "hiera sam2_hiera", "pos_embed_win"},
    {"MobileViT", "mobilevit", "conv_kxk conv_projection"},
    {"MaxViT or CoAtNet", "maxvit maxxvit coatnet coatnext", "attn_block. attn_grid."},
    {"LeViT", "levit", "attention_biases"},
    {"EfficientViT", "efficientvit", ""},
    {"ConViT", "convit", ""},
    {"PiT", "pit_", "transformers.0.blocks."},
    {"Mixer", "mixer gmixer", "mlp_tokens."},
    {"DINOv3 on ConvNeXt", "dinov3_convnext", ""},
    {"TinyViT", "tiny_vit", "local_conv."},
    {"CaiT", "cait", "blocks_token_only"},
    {"XCiT", "xcit", "local_mp."},
    {"MViT", "mvit", "pool_q. norm_q."},
    {"CvT", "cvt", "convolution_projection"},
    {"SegFormer or PVT", "segformer pvt", "patch_embeddings.0. sequence_reduction"},
    {"a pooling or convolutional transformer",
     "poolformer caformer convformer efficientformer fastvit davit focalnet gcvit edgenext "
     "nextvit vitamin volo twins crossvit coat_ visformer tnt_ nest nextvit repvit swiftformer",
     "token_mixer"},
    {"ConvNeXt", "convnext", "dwconv conv_dw"},
    {"EfficientNet or MobileNet", "efficientnet tf_efficientnet mobilenet", "conv_stem conv_pwl"},
    {"a ResNet", "resnet resnext wide_resnet seresnet resnetv2 bit regnet",
     "layer1.0. resnet.embedder regnet."},
    {"a convolutional network", "vgg densenet inception", "denseblock features.0.weight"},
    {"YOLOS or YOLO", "yolo", "mid_position_embeddings detection_tokens"},
    {"DETR", "detr conditional_detr deformable_detr rt_detr table-transformer",
     "query_position_embeddings class_labels_classifier"},
    {"a segmentation model", "mask2former maskformer oneformer upernet", "pixel_decoder"},
    {"a depth model", "dpt depth_anything zoedepth", "neck.reassemble"},
    {"Segment Anything (SAM)", "sam samvit", "mask_decoder image_encoder"},
    {"a video model", "videomae timesformer vivit vjepa", "time_embeddings temporal_"},
    {"a model of images and text",
     "vilt vision-encoder-decoder vision-text-dual-encoder llava paligemma florence2 owlvit "
     "owlv2 grounding-dino git kosmos idefics qwen2_vl pix2struct donut trocr",
     "language_model. text_encoder. decoder.layers.0.encoder_attn"},
    {"a model of sound", "whisper wav2vec2 hubert audio-spectrogram-transformer clap",
     "feature_extractor.conv_layers"},
    {"a language model (BERT, GPT, LLaMA …)",
     "bert roberta xlm-roberta distilbert electra albert deberta gpt llama mistral mixtral qwen "
     "gemma phi t5 bart opt bloom falcon",
     "word_embeddings embed_tokens wte. self_attn.q_proj"},
    {"a diffusion model", "", "down_blocks. diffusion_model."},
    // Parts of a ViT or Swin, where nothing above names the model.
    {"has attention pooling", "", "attn_pool."},
    {"has parallel blocks", "", "attns."},
    {"has SwiGLU", "", "mlp.w12"},
    {"has a representation layer before the head", "", "pre_logits"},
};

// "is SwinV2", "has register tokens"
std::string phrase(const Foreign& foreign) {
  const std::string name = foreign.name;
  return name.starts_with("has ") ? name : "is " + name;
}

// Calls fits(word) for each word of a list and returns whether one of them does.
template <class Fits>
bool any_word(std::string_view list, Fits fits) {
  while (!list.empty()) {
    const size_t end = std::min(list.find(' '), list.size());
    if (end > 0 && fits(list.substr(0, end))) return true;
    list.remove_prefix(std::min(end + 1, list.size()));
  }
  return false;
}

}  // namespace

std::string foreign_format(std::string_view bytes) {
  for (const Magic& magic : kMagics)
    if (bytes.size() >= magic.offset && bytes.substr(magic.offset).starts_with(magic.bytes))
      return magic.text;
  if (is_html(bytes)) return "a web page, so the download failed";
  if (is_onnx(bytes)) return "an ONNX model; vitrun reads the weights it was exported from";
  if (bytes.starts_with("PK\x03\x04")) return zip_text(bytes);
  if (is_pickle(bytes)) return cat("a Python pickle, mostly an old PyTorch .pth", kConvert);
  return "";
}

std::string foreign_type(const std::string& type) {
  for (const Foreign& foreign : kForeign)
    if (any_word(foreign.types, [&](std::string_view word) {
          return word[0] == '*' ? type.find(word.substr(1)) != type.npos : type.starts_with(word);
        }))
      return phrase(foreign);
  return "";
}

std::string foreign_tensors(const std::vector<std::string>& names) {
  for (const Foreign& foreign : kForeign)
    for (const std::string& name : names)
      if (any_word(foreign.tensors,
                   [&](std::string_view part) { return name.find(part) != name.npos; }))
        return phrase(foreign);
  return "";
}

}  // namespace vitrun
