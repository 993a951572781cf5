/* vitrun as a C library: quantized vision transformers, run in integers on a CPU.
 *
 *   #include <stdio.h>
 *   #include <stdlib.h>
 *   #include <vitrun.h>
 *
 *   int classify(const unsigned char* rgb, int width, int height) {
 *     vit_model* model = NULL;
 *     vit_session* session = NULL;
 *     float* logits = NULL;
 *     vit_output out = {"logits", NULL, 0};
 *     vit_prediction best = {-1, 0, 0};
 *     vit_status status = vit_model_open("deit_s.qbin", NULL, &model);
 *     if (!status) status = vit_session_create(model, NULL, &session);
 *     if (!status) out.size = (size_t)vit_model_classes(model);
 *     if (!status) out.data = logits = malloc(sizeof(float) * out.size);
 *     if (logits) status = vit_session_run_rgb(session, rgb, width, height, 3 * width, &out, 1);
 *     if (status) fprintf(stderr, "%s\n", vit_last_error());
 *     if (logits && !status) vit_top_k(logits, vit_model_classes(model), 1, &best);
 *     free(logits);
 *     vit_session_free(session);
 *     vit_model_close(model);
 *     return best.class_index;
 *   }
 *
 * Threads. A vit_model is immutable: any number of threads may use one at once. A vit_session has
 * buffers and threads of its own: one thread at a time may use it, many sessions may share a model.
 *
 * Ownership. Whatever a function creates through a `**` argument, the caller frees with the
 * function named there; NULL may be freed. A session keeps its model alive: close and free in any
 * order. On failure `*out` is NULL. Strings returned belong to the model and live as long as it
 * does.
 *
 * fork(). In a child a session works on: it starts threads of its own at its first run there. Only
 * one that was running in the parent at that moment fails with VIT_ERROR_SYSTEM.
 *
 * Errors. Functions that can fail return a vit_status, 0 being success; vit_last_error() then says
 * in words what was expected and what was found. A NULL model or session is an error too; getters
 * give 0 or NULL for it. The library never prints, exits, aborts or throws,
 * and installs no signal handler.
 *
 * Answers. A model gives the same logits, to the last bit, on every CPU, instruction set, number of
 * threads and batch size.
 *
 * Stability. From version 0.2 on functions, numbers and fields keep their meaning and are only
 * added to; structs with a struct_size grow at the end only. A NULL for options means the
 * defaults. */
#ifndef VITRUN_H
#define VITRUN_H

#include <stddef.h>
#include <stdint.h>

#define VIT_VERSION_MAJOR 0
#define VIT_VERSION_MINOR 2
#define VIT_VERSION_PATCH 0

#if defined(__GNUC__)
#define VIT_API __attribute__((visibility("default")))
#else
#define VIT_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef struct vit_model vit_model;
typedef struct vit_session vit_session;

typedef enum vit_status {
  VIT_OK = 0,
  VIT_ERROR_ARGUMENT = 1, /* the caller's mistake: NULL, a size out of range, an unknown ISA */
  VIT_ERROR_FILE = 2,     /* the system could not open or map the file */
  VIT_ERROR_MODEL = 3,    /* the file is not a usable .qbin, or damaged; its outputs overflow */
  VIT_ERROR_MEMORY = 4,   /* out of memory */
  VIT_ERROR_SYSTEM = 5    /* the system refused something else, a thread say */
} vit_status;

/* "VIT_ERROR_FILE"; "VIT_UNKNOWN" for a number that is no status. */
VIT_API const char* vit_status_name(vit_status status);
/* About the last failure on this thread, "" if there was none; valid until the next one. */
VIT_API const char* vit_last_error(void);

/* Of the library that runs, which may be newer than this header: major * 10000 + minor * 100 +
 * patch. */
VIT_API int vit_version(void);
/* Instruction sets this CPU can run, best first, separated by spaces: "avx512vnni avx2 scalar". */
VIT_API const char* vit_isa_names(void);

/* ---- models ---- */

typedef struct vit_model_options {
  size_t struct_size; /* sizeof(vit_model_options) */
  int verify; /* not 0: compare all weights with their checksums, which reads the whole file */
} vit_model_options;

/* Maps a .qbin and checks its structure. The file must not be changed while it is open (replace it
 * by renaming another over it). Free with vit_model_close. */
VIT_API vit_status vit_model_open(const char* path, const vit_model_options* options,
                                  vit_model** out);
/* The same on bytes in memory, aligned to 64, which must stay unchanged until the model and its
 * sessions are gone. */
VIT_API vit_status vit_model_open_memory(const void* bytes, size_t size,
                                         const vit_model_options* options, vit_model** out);
VIT_API void vit_model_close(vit_model* model);

VIT_API const char* vit_model_name(const vit_model* model); /* "deit_small_patch16_224" */
/* Of its input, in pixels; 0 for a detector, which takes any size. */
VIT_API int vit_model_width(const vit_model* model);
VIT_API int vit_model_height(const vit_model* model);
/* Of the output "logits", or those a detector tells apart; 0 if the model has none. */
VIT_API int vit_model_classes(const vit_model* model);
/* What a model can give: "logits" [classes]; "embedding" [D], the image's vector; "features"
 * [tokens, D], the tokens after the last norm, prefix tokens first. A model has at least one, a
 * detector none. */
VIT_API int vit_model_outputs(const vit_model* model);
/* NULL if there is no such output. */
VIT_API const char* vit_model_output_name(const vit_model* model, int output);
/* Rows and columns for an image of the model's own size; 0 if there is no such output. */
VIT_API int vit_model_output_rows(const vit_model* model, int output);
VIT_API int vit_model_output_cols(const vit_model* model, int output);
/* NULL if the model has no names for its classes or there is no such class. */
VIT_API const char* vit_model_label(const vit_model* model, int class_index);
/* A metadata entry as text ("recipe.method"), or NULL; numbers of an array are separated by spaces.
 */
VIT_API const char* vit_model_metadata(const vit_model* model, const char* key);
/* Of the file, which is mapped: what of it is in memory the system may drop and read again. */
VIT_API size_t vit_model_file_bytes(const vit_model* model);

/* ---- sessions ---- */

typedef struct vit_session_options {
  size_t struct_size; /* sizeof(vit_session_options) */
  int threads;     /* 1..256, the caller's being one of them; 0: one for each CPU that affinity and
                      cgroup quota allow */
  int max_batch;   /* images a run may take at once, 1..4096; 0: 1 */
  const char* isa; /* of vit_isa_names(); NULL: VITRUN_ISA in the environment, or the best */
} vit_session_options;

/* Where an output of a run goes. */
typedef struct vit_output {
  const char* name; /* "logits", "embedding", "features" */
  float* data;      /* [batch, rows, cols] */
  size_t size;      /* floats that data has room for */
} vit_output;

/* Allocates all memory and starts the threads that runs need. Free with vit_session_free. */
VIT_API vit_status vit_session_create(const vit_model* model, const vit_session_options* options,
                                      vit_session** out);
VIT_API void vit_session_free(vit_session* session);

/* Chooses images of this size (0 x 0: the model's own) and these outputs for runs to come, and
 * allocates what they need; the last four choices are kept, so that the next runs of one of them
 * allocate nothing. A run that asks for other outputs than those chosen last chooses by itself.
 * Fails with VIT_ERROR_MODEL on a size that the model does not allow. */
VIT_API vit_status vit_session_prepare(vit_session* session, int width, int height,
                                       const char* const* outputs, int count);
/* Bytes that vit_session_memory() would say after that call, 0 if it would fail; allocates no
 * buffers. */
VIT_API size_t vit_session_memory_for(const vit_session* session, int width, int height,
                                      const char* const* outputs, int count);

/* An image of 8-bit R, G, B pixels, any size up to 32768 x 32768; row y begins at rgb + y *
 * row_bytes. Resized, cropped and normalised as the model was trained (timm's transform on Pillow,
 * bit for bit) to the size chosen. Gives the `count` outputs named. Buffers for the largest image
 * seen are kept; a larger one allocates. */
VIT_API vit_status vit_session_run_rgb(vit_session* session, const uint8_t* rgb, int width,
                                       int height, ptrdiff_t row_bytes, const vit_output* outputs,
                                       int count);
/* images: `batch` (1..max_batch) of [3, height, width] floats of the size chosen, normalised
 * already; NaN and infinity are an error. Allocates nothing if the outputs are those chosen last.
 */
VIT_API vit_status vit_session_run_float(vit_session* session, const float* images, int batch,
                                         const vit_output* outputs, int count);
/* Bytes of the buffers of a session. */
VIT_API size_t vit_session_memory(const vit_session* session);
/* The instruction set it runs on. */
VIT_API const char* vit_session_isa(const vit_session* session);

/* ---- detectors ---- */

/* Whether a model finds objects, their boxes, classes and masks: it has no outputs and no
 * vit_session, but a vit_detector. */
VIT_API int vit_model_is_detector(const vit_model* model);

/* Buffers and threads, as a session has them: one thread at a time may use it, it keeps its model
 * alive, and works on in a child of fork(). */
typedef struct vit_detector vit_detector;

typedef struct vit_detection {
  float x1, y1, x2, y2; /* corners of the box in the image's pixels, within it */
  float score;          /* 0 to 1 */
  int class_index;
} vit_detection;

/* max_batch of the options must be 0 or 1. Free with vit_detector_free. */
VIT_API vit_status vit_detector_create(const vit_model* model, const vit_session_options* options,
                                       vit_detector** out);
VIT_API void vit_detector_free(vit_detector* detector);

/* Finds the objects of an image, given as for vit_session_run_rgb: how many goes to `found`, 0
 * being no error. What was found stays until the next run. */
VIT_API vit_status vit_detector_run_rgb(vit_detector* detector, const uint8_t* rgb, int width,
                                        int height, ptrdiff_t row_bytes, int* found);
/* The i-th of the last run, the best first. */
VIT_API vit_status vit_detector_get(const vit_detector* detector, int i, vit_detection* out);
/* Its mask as bytes 0 and 1 [height, width] of the image; `size` is what mask has room for. */
VIT_API vit_status vit_detector_mask(const vit_detector* detector, int i, uint8_t* mask,
                                     size_t size);
/* The same as "counts" of a COCO run-length code, column by column; NULL if there is no such
 * detection. The detector owns it until its next run. */
VIT_API const char* vit_detector_mask_counts(vit_detector* detector, int i);

/* Bytes of the engines' buffers, which are kept from image to image. */
VIT_API size_t vit_detector_memory(const vit_detector* detector);
/* At most so many bytes will a run take for an image of this size, those buffers among them; the
 * masks of what is found come on top, some bytes a column under each. 0 if no image has that size.
 */
VIT_API size_t vit_detector_memory_for(const vit_detector* detector, int width, int height);
/* The instruction set it runs on. */
VIT_API const char* vit_detector_isa(const vit_detector* detector);

/* ---- texts ---- */

/* Whether a model embeds texts as well as images (CLIP with both towers): an image's "embedding"
 * and a text's can be compared. A model whose classes were stored with it (vitquant --classes)
 * has "logits" instead. */
VIT_API int vit_model_takes_texts(const vit_model* model);

/* Buffers and threads, as a session has them: one thread at a time may use it, it keeps its model
 * alive, and works on in a child of fork(). */
typedef struct vit_text_encoder vit_text_encoder;

/* max_batch of the options must be 0 or 1. Fails with VIT_ERROR_MODEL on a model that takes no
 * texts. Free with vit_text_encoder_free. */
VIT_API vit_status vit_text_encoder_create(const vit_model* model,
                                           const vit_session_options* options,
                                           vit_text_encoder** out);
VIT_API void vit_text_encoder_free(vit_text_encoder* encoder);
/* D, the length of an embedding, which is that of the model's images. */
VIT_API int vit_text_encoder_cols(const vit_text_encoder* encoder);
/* A logit is this times the cosine of an image's and a text's embedding. */
VIT_API float vit_text_encoder_logit_scale(const vit_text_encoder* encoder);

/* The embedding [D] of a text in UTF-8; what is beyond the model's longest text is cut off. Fails
 * with VIT_ERROR_MODEL on what is no UTF-8, and in a library built without VITRUN_TEXT. Allocates.
 */
VIT_API vit_status vit_text_encoder_run(vit_text_encoder* encoder, const char* text,
                                        float* embedding, size_t size);
/* A vector [D] of length 1 for a class: the mean over the templates of the texts' embeddings, each
 * of length 1. A template has {} in the place of the name, "a photo of a {}."; for `count` 0 it is
 * seven of CLIP's, which `vitrun --classes` takes too. */
VIT_API vit_status vit_text_encoder_run_class(vit_text_encoder* encoder, const char* name,
                                              const char* const* templates, int count,
                                              float* vector, size_t size);
/* Bytes of its buffers. */
VIT_API size_t vit_text_encoder_memory(const vit_text_encoder* encoder);
/* The instruction set it runs on. */
VIT_API const char* vit_text_encoder_isa(const vit_text_encoder* encoder);

/* ---- answers ---- */

/* out[i] = scale * cosine(embedding, vectors[i]) of an embedding [cols] and vectors [count, cols]
 * of any length but zero, which is an error. With the model's logit_scale it gives an image's
 * logits for classes; with 1, how alike images or texts are. Allocates nothing. */
VIT_API vit_status vit_cosines(const float* embedding, const float* vectors, int count, int cols,
                               float scale, float* out);

typedef struct vit_prediction {
  int class_index;
  float logit, probability; /* probability: softmax over all classes; sigmoid of a single one */
} vit_prediction;

/* The k (<= classes) largest of logits [classes], best first, equal ones by class. Allocates
 * nothing. */
VIT_API vit_status vit_top_k(const float* logits, int classes, int k, vit_prediction* out);

#ifdef __cplusplus
}
#endif

#endif /* VITRUN_H */
