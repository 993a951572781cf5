/* Says which of some named classes a raw picture is of: WIDTH * HEIGHT * 3 bytes, R, G, B, row by
 * row. The model is a CLIP with both towers, as vitquant writes it.
 *
 *   cc zero_shot.c $(pkg-config --cflags --libs vitrun) -o zero_shot
 *   ./zero_shot clip.qbin picture.rgb 640 480 cat dog "a red car" */
#include <stdio.h>
#include <stdlib.h>
#include <vitrun.h>

/* Everything that has to be freed. */
struct work {
  vit_model* model;
  vit_session* session;
  vit_text_encoder* encoder;
  unsigned char* rgb;
  float *vectors, *embedding, *logits;
  vit_prediction* best;
};

static int read_picture(struct work* w, const char* path, size_t size) {
  FILE* file = fopen(path, "rb");
  w->rgb = (unsigned char*)malloc(size);
  size_t got = w->rgb && file ? fread(w->rgb, 1, size, file) : 0;
  if (file) fclose(file);
  if (got != size) fprintf(stderr, "%s: expected %zu bytes\n", path, size);
  return got == size;
}

static int allocate(struct work* w, size_t cols, size_t classes) {
  w->vectors = (float*)malloc(sizeof(float) * cols * classes);
  w->embedding = (float*)malloc(sizeof(float) * cols);
  w->logits = (float*)malloc(sizeof(float) * classes);
  w->best = (vit_prediction*)malloc(sizeof(vit_prediction) * classes);
  return w->vectors && w->embedding && w->logits && w->best;
}

static vit_status open_all(struct work* w, const char* path) {
  vit_status status = vit_model_open(path, NULL, &w->model);
  if (!status) status = vit_session_create(w->model, NULL, &w->session);
  if (!status) status = vit_text_encoder_create(w->model, NULL, &w->encoder);
  return status;
}

/* The vectors of the names, once, then the logits of the picture. */
static vit_status answer(struct work* w, char** names, int count, int width, int height) {
  int cols = vit_text_encoder_cols(w->encoder);
  float scale = vit_text_encoder_logit_scale(w->encoder);
  vit_output out = {"embedding", NULL, 0};
  vit_status status = VIT_OK;
  for (int i = 0; i < count && !status; i++)
    status = vit_text_encoder_run_class(w->encoder, names[i], NULL, 0, w->vectors + i * cols,
                                        (size_t)cols);
  out.data = w->embedding;
  out.size = (size_t)cols;
  if (!status) status = vit_session_run_rgb(w->session, w->rgb, width, height, 3 * width, &out, 1);
  if (!status) status = vit_cosines(w->embedding, w->vectors, count, cols, scale, w->logits);
  if (!status) status = vit_top_k(w->logits, count, count, w->best);
  return status;
}

int main(int argc, char** argv) {
  if (argc < 6) {
    fprintf(stderr, "usage: zero_shot CLIP.qbin PICTURE.rgb WIDTH HEIGHT CLASS...\n");
    return 2;
  }
  int width = atoi(argv[3]), height = atoi(argv[4]), count = argc - 5, done = 0;
  if (width < 1 || height < 1 || width > 32768 || height > 32768) {
    fprintf(stderr, "WIDTH and HEIGHT are 1 to 32768\n");
    return 2;
  }
  struct work w = {NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL};
  vit_status status = open_all(&w, argv[1]);
  if (!status && read_picture(&w, argv[2], (size_t)width * (size_t)height * 3) &&
      allocate(&w, (size_t)vit_text_encoder_cols(w.encoder), (size_t)count)) {
    status = answer(&w, argv + 5, count, width, height);
    done = !status;
  }
  if (status) fprintf(stderr, "%s\n", vit_last_error());
  for (int i = 0; done && i < count; i++)
    printf("%5.1f %%  %d  %s  %.9g\n", 100.0 * w.best[i].probability, w.best[i].class_index,
           argv[5 + w.best[i].class_index], w.best[i].logit);
  free(w.best);
  free(w.logits);
  free(w.embedding);
  free(w.vectors);
  free(w.rgb);
  vit_text_encoder_free(w.encoder);
  vit_session_free(w.session);
  vit_model_close(w.model);
  return !done;
}
