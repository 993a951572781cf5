// exp, GELU and log2 by polynomials. They are written once over the 16-lane vector of the ISA
// (vec_*-inl.h), so that every ISA returns the same bits. The coefficients and the errors stated
// here come from fit_vecmath.py.
#pragma once

namespace vitrun {
namespace {

// sum_i coefficients[i] x^i by Horner's rule.
template <int kCount>
inline Floats polynomial(const float (&coefficients)[kCount], Floats x) {
  Floats y = splat(coefficients[kCount - 1]);
  for (int i = kCount - 2; i >= 0; i--) y = fma(y, x, splat(coefficients[i]));
  return y;
}

// exp(x) for x in [-87.33, 88.72], where 2^n is a normal number. Error <= 0.9 ulp.
//
//   exp(x) = 2^n (1 + r + r^2 P(r)), n = round(x / ln 2), r = x - n ln 2
//
// ln 2 is subtracted in two parts, of which the first is so short that n times it is exact.
inline Floats exp_in_range(Floats x) {
  static constexpr float kPoly[] = {0x1.fffffcp-2f, 0x1.555492p-3f, 0x1.5558f2p-5f, 0x1.1239e2p-7f,
                                    0x1.6a2432p-10f};
  // Adding 1.5 * 2^23 rounds to an integer, which is then in the low bits.
  const Floats shifted = fma(x, splat(0x1.715476p0f), splat(0x1.8p23f));
  const Floats whole = shifted - splat(0x1.8p23f);
  const Floats r = fnma(whole, splat(0x1.7f7d1cp-20f), fnma(whole, splat(0x1.62e4p-1f), x));
  const Floats y = fma(fma(polynomial(kPoly, r), r, splat(1.0f)), r, splat(1.0f));
  return bits_to_float(float_to_bits(y) + shift_left<23>(float_to_bits(shifted)));
}

// exp(x) for any x, clamped to that range; NaN gives the value of its lower end.
inline Floats exp_lanes(Floats x) {
  return exp_in_range(min(max(x, splat(-87.33f)), splat(88.72f)));
}

// exp_lanes() for x <= 0 or NaN: the same bits with one clamp less.
inline Floats exp_nonpositive(Floats x) {
  return exp_in_range(max(x, splat(-87.33f)));
}

// gelu(x) = x Phi(x). Error <= 1.8 ulp for x > 0, <= 1e-7 absolute for x <= 0. NaN gives NaN.
//
//   gelu(x) = max(x, 0) - |x| Phi(-|x|)
//   Phi(-t) = (c + P(t))^2 = c^2 + P(t) (2c + P(t)) on [0, 5.6]
//
// t is clamped to 5.6, beyond which Phi(-t) no longer matters. c has few bits, so that c^2 is
// exact, and is near sqrt(1/2), so that P is small near t = 0, where its rounding would count most.
inline Floats gelu_lanes(Floats x) {
  static constexpr float kPoly[] = {
      0x1.3cc04cp-14f, -0x1.20dd4cp-2f,  -0x1.ccff3ep-5f,  0x1.929616p-6f,  0x1.f1ee24p-8f,
      -0x1.228232p-9f, -0x1.c5c7eep-12f, -0x1.f56b36p-15f, 0x1.567f0ap-13f, -0x1.ce86f6p-15f,
      0x1.23109cp-17f, -0x1.71f30cp-21f, 0x1.819c84p-26f};
  constexpr float kRoot = 0.70703125f;
  const Floats t = min(abs(x), splat(5.6f));
  const Floats p = polynomial(kPoly, t);
  const Floats phi = fma(p, p + splat(2 * kRoot), splat(kRoot * kRoot));
  return fnma(t, phi, max(splat(0.0f), x));
}

// x / (1 + exp(-u)) = x sigmoid(u).
inline Floats gated(Floats x, Floats u) {
  return x / (splat(1.0f) + exp_lanes(splat(0.0f) - u));
}

// Calls body(activation) with a function of lanes. The choice is made outside of loops.
template <class Body>
inline void with_activation(Activation type, const Body& body) {
  switch (type) {
    case Activation::kGelu:
      return body([](Floats x) { return gelu_lanes(x); });
    case Activation::kGeluTanh:
      // u = x (2 sqrt(2 / pi) + 2 sqrt(2 / pi) 0.044715 x^2)
      return body([](Floats x) {
        return gated(x, x * fma(x * x, splat(0x1.2444f2p-4f), splat(0x1.988454p0f)));
      });
    case Activation::kQuickGelu:
      return body([](Floats x) { return gated(x, x * splat(1.702f)); });
    case Activation::kSilu:
      return body([](Floats x) { return gated(x, x); });
    case Activation::kRelu:
      // Adding 0 makes 0 of -0, of which max() may return either.
      return body([](Floats x) { return max(splat(0.0f), x) + splat(0.0f); });
  }
}

// log2 of one positive normal number. Error <= 0.52 ulp. It is computed in double, since a row
// needs it only once.
//
//   x = 2^e m, m in [sqrt 1/2, sqrt 2); log2 x = e + z P(z^2), z = (m - 1) / (m + 1)
inline float log2_one(float x) {
  constexpr uint32_t kSqrtHalf = 0x3F3504F3;
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  const int32_t exponent = static_cast<int32_t>(bits - kSqrtHalf) >> 23;
  bits -= static_cast<uint32_t>(exponent) << 23;
  float m;
  std::memcpy(&m, &bits, sizeof m);
  const double z = (double{m} - 1) / (double{m} + 1);
  const double u = z * z;
  double y = __builtin_fma(0x1.ba1b4407299f2p-2, u, 0x1.274710c5af4fdp-1);
  y = __builtin_fma(y, u, 0x1.ec70e6204f06cp-1);
  y = __builtin_fma(y, u, 0x1.7154764e70d08p+1);
  return static_cast<float>(__builtin_fma(z, y, exponent));
}

}  // namespace
}  // namespace vitrun
