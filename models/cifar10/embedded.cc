#include "models/cifar10/embedded.h"

#ifdef VITRUN_DEMO

// The assembler places the files; VITRUN_MODEL_DIR is models/cifar10.
#define VITRUN_EMBED(symbol, file)                                        \
  asm(".section .rodata\n.balign 64\n.hidden " symbol "\n.hidden " symbol \
      "_end\n"                                                            \
      ".globl " symbol "\n" symbol ":\n.incbin \"" file                   \
      "\"\n"                                                              \
      ".globl " symbol "_end\n" symbol "_end:\n.byte 0\n.previous\n")

VITRUN_EMBED("vitrun_embedded_model", VITRUN_MODEL_DIR "/vit.qbin");
VITRUN_EMBED("vitrun_embedded_image", VITRUN_MODEL_DIR "/demo.jpg");

extern "C" const uint8_t vitrun_embedded_model[], vitrun_embedded_model_end[];
extern "C" const uint8_t vitrun_embedded_image[], vitrun_embedded_image_end[];

namespace vitrun {

std::span<const uint8_t> embedded_model() {
  return {vitrun_embedded_model, vitrun_embedded_model_end};
}
std::span<const uint8_t> embedded_image() {
  return {vitrun_embedded_image, vitrun_embedded_image_end};
}

}  // namespace vitrun

#else

#include "models/base/error.h"

namespace vitrun {

std::span<const uint8_t> embedded_model() {
  fail("this program was built without the embedded model and picture: name your own");
}
std::span<const uint8_t> embedded_image() {
  return embedded_model();
}

}  // namespace vitrun

#endif
