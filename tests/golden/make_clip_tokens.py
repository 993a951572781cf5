"""Writes a small CLIP tokenizer and what transformers makes of 1,000 strings: golden/clip/.

    pip install transformers==5.24.0 tokenizers==0.23.3
    python3 tests/golden/make_clip_tokens.py

The vocabulary is trained here, on sentences of this script, so that the files are small and nobody's. tokenizer.json, vocab.json
and merges.txt are one tokenizer; tokens.json holds {"text", "ids"} of each string: start token, at most 75 tokens, end token.
"""
import itertools
import json
import pathlib
import random

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

OUT = pathlib.Path(__file__).parent / "clip"
START, END = "<|startoftext|>", "<|endoftext|>"
VOCABULARY = 1400

SENTENCES = [
    "a photo of a cat.", "a blurry photo of many dogs", "It's a red car, isn't it? We'll see what they've done; I'd say I'm sure you're right.",
    "The quick brown fox jumps over the lazy dog", "un café à la crème brûlée, naïve façade", "Größe, Straße, STRASSE, GROẞE, Übermut",
    "İstanbul'da ılık bir gün, ISPARTA", "Ὀδυσσεύς ΟΔΥΣΣΕΥΣ σοφός Σίσυφος", "Широкая электрификация южных губерний", "中文字符和日本語の文章、한국어 문장",
    "أبجد هوز حطي كلمن", "עברית בלי ניקוד וְעִם נִקּוּד", "हिन्दी में एक वाक्य क्षत्रिय", "ภาษาไทยไม่มีวรรคตอน", "தமிழ் మలయాళం മലയാളം ಕನ್ನಡ", "ქართული ენა ᲥᲐᲠᲗᲣᲚᲘ",
    "👩‍👩‍👧‍👦 🇩🇪 👍🏽 ❤️ 🏳️‍🌈 ☃︎", "x² + y³ = ½ Ⅷ ٣٤٥ १२३ ໓ 𝟘𝟙 ① 二〇", "e\u0301 n\u0303 A\u030a o\u0302\u0323 \u1e69 s\u0323\u0307 \u212b \u2126 \ufb01",
    "'s 't 're 've 'm 'll 'd ''s 'S 'LL it's IT'S ’s", "tab\there\nnewline\r\nnbsp\u00a0em\u2003zwsp\u200bls\u2028ideo\u3000nel\u0085bom\ufeff",
    "\x00\x01\x1c\x1f\x7f\x80\x9f", START, END, "a" + END + "b", START.upper() + "!", "<|startoftext|>!<|endoftext|>'s", "!!!???...---___", "$100 €5 50% #1 @me a_b C++ c:\\x",
    "Ǆ ǅ ǆ ŉ ǰ ΐ ﬆ ẞ ß K Å Ω ϴ Ⱥ Ⱦ Ꙁ 𐐀𐐨 𞤀𞤢 ꭰ Ꭰ", "ㅎㅏㄴ \u1112\u1161\u11ab \u1100\u1161 \uac00\u11a8", "\u0f71\u0f72 \u0958 \ufb1d \U0001d15e \u2f800 \u2adc \u0344",
    "ñandú à côté de l'œuvre", "na\u00efve co\u00f6perate", "zażółć gęślą jaźń", "Příliš žluťoučký kůň", "árvíztűrő tükörfúrógép", "Việt Nam tiếng Việt", "\ud7a3\u302e \u3042\u3099 か\u3099",
]
ALPHABETS = ["abcdefghij ABCXYZ", "éèêëàçñöüßæøåÉÑÖÜẞÆØÅİı", "αβγδεσςΑΒΓΣΏώ", "абвгдеёжзиАБВЖЁ", "漢字中文日本", "ひらがなカタカナ\u3099", "한글말가각", "ابتثجحخ\u064b\u0651", "אבגדה\u05b0\u05bc",
             "अआइकखग\u093c\u094d\u093e", "กขคง\u0e34\u0e48", "0123456789٠١٢०१²½Ⅳ①𝟘", " \t\n\u00a0\u2003\u3000\u0085\u2028\u200b\u200d\ufeff", "'stremvld'’\"", ".,;:!?-_()[]{}<>|/\\@#$%^&*+=~`",
             "\u0300\u0301\u0308\u0323\u0327\u0345", "😀👍🏽❤\ufe0f🇩🇪👩\u200d👧", "ႠႡაბⴀᲐ", "\x00\x07\x1c\x1f\x7f\x85", "𐐀𐐨𝒜𝔸🄰Ⓐⓐﬁﬀ"]


def texts():
    rng = random.Random(22)
    yield ""
    yield from SENTENCES
    words = [w for s in SENTENCES for w in s.split(" ")]
    for template, word in itertools.islice(itertools.product(["a photo of a {}.", "{}"], words), 0, None, 2):
        yield template.format(word)
    yield "the cat and the dog " * 30  # which is cut
    yield "'" * 300
    while True:
        parts = rng.sample(ALPHABETS, rng.randint(1, 4))
        yield "".join(rng.choice(rng.choice(parts)) for _ in range(rng.randint(1, 40)))


def train():
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix="", unk_token=END))
    clip = CLIPTokenizer()._tokenizer
    tokenizer.normalizer, tokenizer.pre_tokenizer = clip.normalizer, clip.pre_tokenizer
    tokenizer.train_from_iterator(SENTENCES * 4, trainers.BpeTrainer(
        vocab_size=VOCABULARY - 258, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), end_of_word_suffix="</w>", max_token_length=14,
        show_progress=False))
    model = json.loads(tokenizer.to_str())["model"]
    return list(model["vocab"]), model["merges"]


def main():
    OUT.mkdir(exist_ok=True)
    tokens, merges = train()
    # The trainer knows only the ends of words that it met; CLIP has one of every byte.
    ends = [byte + "</w>" for byte in sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokens = sorted(t for t in tokens if len(t) == 1) + ends + [t for t in tokens if len(t) > 1 and t not in ends] + [START, END]
    vocabulary = {t: i for i, t in enumerate(tokens)}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[tuple(m) for m in merges])
    tokenizer._tokenizer.save(str(OUT / "tokenizer.json"), pretty=False)
    (OUT / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (OUT / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    golden = []
    for text in itertools.islice(texts(), 1000):
        ids = tokenizer(text, max_length=77, truncation=True)["input_ids"]
        golden.append({"text": text, "ids": ids})
    (OUT / "tokens.json").write_text("[\n" + ",\n".join(json.dumps(g) for g in golden) + "\n]\n")


if __name__ == "__main__":
    main()
