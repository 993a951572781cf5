// Refusals name what a file is; prefixes of wrappers come off.
#include "models/names/foreign.h"

#include <doctest/doctest.h>

#include "models/base/error.h"
#include "models/names/names.h"

using namespace vitrun;

namespace {

using Strings = std::vector<std::string>;

std::string error_of(const Strings& names) {
  try {
    timm_names(names, "f");
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// The names of a small ViT, each with a prefix before it.
Strings timm_vit(const std::string& prefix) {
  Strings names;
  for (const char* name : {"cls_token", "pos_embed", "patch_embed.proj.weight", "norm.weight",
                           "blocks.0.attn.qkv.weight", "blocks.0.norm1.weight", "head.weight"})
    names.push_back(prefix + name);
  return names;
}

Strings transformers_vit(const std::string& outer) {
  return {outer + "vit.embeddings.cls_token", outer + "vit.encoder.layer.0.layernorm_before.weight",
          outer + "vit.layernorm.weight", outer + "classifier.weight"};
}

std::string bytes(const char* text, size_t size) {
  return std::string(text, size);
}

}  // namespace

TEST_CASE("wrappers' prefixes come off in any combination") {
  for (const char* prefix :
       {"", "module.", "model.", "_orig_mod.", "timm_model.", "backbone.", "net.",
        "base_model.model.", "encoder.", "vit.", "module._orig_mod.model.",
        "base_model.model.timm_model.", "model.encoder.backbone.vit.net."}) {
    const NameMap map = timm_names(timm_vit(prefix), "f");
    CHECK(map.size() == 7);
    CHECK(map.at("blocks.0.norm1.weight").front() == std::string(prefix) + "blocks.0.norm1.weight");
  }
  for (const char* prefix : {"", "module.", "model.", "encoder.", "base_model.model.", "vit.net."})
    CHECK(timm_names(transformers_vit(prefix), "f").contains("blocks.0.norm1.weight"));
  const NameMap swin =
      timm_names({"backbone.swin.encoder.layers.0.blocks.0.layernorm_before.weight",
                  "backbone.classifier.weight"},
                 "f");
  CHECK(swin.contains("layers.0.blocks.0.norm1.weight"));
}

TEST_CASE("two models in one file are refused and both named") {
  Strings both = timm_vit("model.");
  for (const std::string& name : timm_vit("module.")) both.push_back(name);
  CHECK(contains(error_of(both), "two models, under 'model.' and 'module.'"));
  both = timm_vit("student.");
  for (const std::string& name : timm_vit("")) both.push_back(name);
  CHECK(contains(error_of(both), "two models, under '' and 'student.'"));
  CHECK(contains(error_of(timm_vit("student.backbone.")),
                 "names begin with 'student.', which vitrun does not know"));
}

TEST_CASE("models that vitrun does not run are known by their tensors") {
  // Names of tensors as the models of timm 1.0.31, transformers 5.24, torchvision 0.28, peft and
  // bitsandbytes have them.
  const std::pair<const char*, const char*> known[] = {
      {"stages.0.blocks.0.attn.meta_mlp.fc1.weight", "is SwinV2-CR"},
      {"blocks.0.attn.inner_attn_ln.weight", "is EVA-02 of its own repository"},
      {"blocks.0.attn.rel_pos.relative_position_bias_table",
       "is a ViT with relative positions in timm's RelPosBias"},
      {"blocks.0.attn_out_proj.weight", "is a ViT whose attention and MLP run in parallel"},
      {"blocks.0.attn.lambda_q1", "is a ViT with differential attention"},
      {"embeds.proj.weight", "is a ViT for images of any shape (NaFlexViT)"},
      {"qformer.encoder.layer.0.output.dense.weight", "is BLIP"},
      {"encoder.layers.encoder_layer_0.ln_1.weight", "is torchvision's ViT"},
      {"features.1.0.attn.relative_position_bias_table", "is torchvision's Swin"},
      {"vit.encoder.mid_position_embeddings", "is YOLOS"},
      {"class_labels_classifier.weight", "is DETR"},
      {"mask_decoder.iou_token.weight", "is Segment Anything"},
      {"layer1.0.conv1.weight", "is a ResNet"},
      {"stages.0.blocks.0.conv_dw.weight", "is ConvNeXt"},
      {"bert.embeddings.word_embeddings.weight", "is a language model"},
      {"vit.encoder.layer.0.attention.attention.query.lora_A.weight", "is LoRA"},
      {"vit.encoder.layer.0.output.dense.SCB", "is weights quantized by bitsandbytes"},
      {"blocks.0.mlp.fc1.qweight", "is weights quantized by GPTQ"},
      {"blocks.0.mlp.w12.weight", "has SwiGLU"},
      {"unheard.of", ""}};
  for (const auto& [name, what] : known) {
    CAPTURE(name);
    const std::string said = foreign_tensors({name});
    CHECK(said.starts_with(what));
    CHECK(said.empty() == std::string(what).empty());
  }
}

TEST_CASE("no type of a model that vitrun runs is called foreign") {
  for (const char* type : {"vit",
                           "deit",
                           "swin",
                           "vit_msn",
                           "vit_tiny_patch16_224",
                           "deit3_base_patch16_384",
                           "swin_tiny_patch4_window7_224",
                           "vit_base_patch16_siglip_gap_224",
                           "vit_base_patch16_gap_224",
                           "vit_base_patch14_dinov2",
                           "vit_small_patch16_36x1_224",
                           "vit_so400m_patch14_siglip_gap_384",
                           "vit_base_patch16_224_miil",
                           "deit_tiny_distilled_patch16_224",
                           "clip",
                           "clip_vision_model",
                           "siglip",
                           "dinov2",
                           "dinov2_with_registers",
                           "dinov3_vit",
                           "beit",
                           "vit_mae",
                           "ijepa",
                           "vit_base_patch16_dinov3",
                           "vit_giant_patch14_dinov2",
                           "vit_small_patch16_rope_mixed_224",
                           "eva02_tiny_patch14_224",
                           "beitv2_base_patch16_224",
                           "flexivit_small",
                           "vit_relpos_small_patch16_224",
                           "vit_base_patch16_rpn_224"})
    CHECK_MESSAGE(foreign_type(type) == "", type);
  CHECK(foreign_type("siglip2") == "is SigLIP 2 for images of any shape (NaFlex)");
  CHECK(foreign_type("resnet50") == "is a ResNet");
  CHECK(foreign_type("swinv2_cr_tiny_ns_224") == "is SwinV2-CR");
}

TEST_CASE("files of other formats are named") {
  const std::pair<std::string, const char*> files[] = {
      {"GGUF" + bytes("\3\0\0\0", 4), "GGUF"},
      {bytes("\x08\x07\x12\x07pytorch\x1a\x05"
             "2.1.0",
             18),
       "ONNX"},
      {"\x89HDF\r\n\x1a\n", "HDF5"},
      {bytes("\x1c\0\0\0TFL3", 8), "TFLite"},
      {"\x1f\x8b\x08", "gzip"},
      {"\n<!DOCTYPE html><html>", "web page"},
      {"<HTML><head>", "web page"},
      {"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"},
      {"{\"a\": 1}", "JSON"},
      {bytes("PK\3\4", 4) + "archive/data.pkl", "safetensors.torch"},
      {bytes("PK\3\4", 4) + "weight.npy", ".npz"},
      {"\x80\x02}q", "safetensors.torch"},
      {"\x89QBN\r\n\x1a\n", ".qbin"},
      {bytes("\x40\0\0\0\0\0\0\0{", 9), ""},
      {bytes("\x80\x02\x01\0\0\0\0\0{", 9), ""},  // a header of 66,176 bytes
      {bytes("\x08\x07\x12\0\0\0\0\0{\"a\":1}   ", 18), ""},
      {"", ""}};
  for (const auto& [start, what] : files) {
    const std::string said = foreign_format(start);
    CHECK_MESSAGE(contains(said, what), what);
    CHECK_MESSAGE(said.empty() == std::string(what).empty(), said);
  }
}
