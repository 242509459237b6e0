/* A small path tracer: a fallow field at dusk. One tile of the picture a run.
 *
 *   pathtracer X0 Y0 X1 Y1 WIDTH HEIGHT SAMPLES
 *
 * renders [X0,X1) x [Y0,Y1) of a WIDTH x HEIGHT picture into /out/tile.ppm. Without arguments the same seven numbers
 * are read from /in/input, or from stdin. All randomness comes from the number of the pixel and of the sample, so that
 * tiles agree however the picture is cut; WebAssembly's float arithmetic makes them agree on every machine.
 *
 * y is up, z leads away from the viewer, colours are linear light.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct { float x, y, z; } vec;

static inline vec v(float x, float y, float z) { return (vec){x, y, z}; }
static inline vec add(vec a, vec b) { return v(a.x + b.x, a.y + b.y, a.z + b.z); }
static inline vec sub(vec a, vec b) { return v(a.x - b.x, a.y - b.y, a.z - b.z); }
static inline vec mul(vec a, vec b) { return v(a.x * b.x, a.y * b.y, a.z * b.z); }
static inline vec scale(vec a, float s) { return v(a.x * s, a.y * s, a.z * s); }
static inline float dot(vec a, vec b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
static inline vec cross(vec a, vec b) {
    return v(a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x);
}
static inline vec unit(vec a) { return scale(a, 1.0f / sqrtf(dot(a, a))); }
static inline vec mix(vec a, vec b, float t) { return add(scale(a, 1.0f - t), scale(b, t)); }
static inline float clamp01(float t) { return t < 0.0f ? 0.0f : t > 1.0f ? 1.0f : t; }
static inline float smooth(float lo, float hi, float t) {
    t = clamp01((t - lo) / (hi - lo));
    return t * t * (3.0f - 2.0f * t);
}

/* ------------------------------------------------------------------ chance and noise */

static uint32_t state;

static uint32_t hash(uint32_t a) {
    a = (a ^ (a >> 16)) * 0x7feb352du;
    a = (a ^ (a >> 15)) * 0x846ca68bu;
    return a ^ (a >> 16);
}

/* [0,1), PCG */
static float chance(void) {
    state = state * 747796405u + 2891336453u;
    uint32_t word = ((state >> ((state >> 28) + 4u)) ^ state) * 277803737u;
    return (float)(((word >> 22) ^ word) >> 8) * (1.0f / 16777216.0f);
}

static float lattice(int32_t x, int32_t y) {
    return (float)(hash((uint32_t)x * 0x9e3779b1u ^ hash((uint32_t)y)) >> 8) * (1.0f / 16777216.0f);
}

/* Smooth noise in [0,1] */
static float noise(float x, float y) {
    float fx = floorf(x), fy = floorf(y), u = x - fx, w = y - fy;
    int32_t i = (int32_t)fx, j = (int32_t)fy;
    u = u * u * (3.0f - 2.0f * u);
    w = w * w * (3.0f - 2.0f * w);
    float low = lattice(i, j) * (1.0f - u) + lattice(i + 1, j) * u;
    float high = lattice(i, j + 1) * (1.0f - u) + lattice(i + 1, j + 1) * u;
    return low * (1.0f - w) + high * w;
}

static float clouds_of(float x, float y) {
    float sum = 0.0f, weight = 0.5f;
    for (int octave = 0; octave < 5; octave++, weight *= 0.5f) {
        sum += weight * noise(x, y);
        float turned = 1.6f * x + 1.2f * y + 7.3f;
        y = -1.2f * x + 1.6f * y + 3.1f;
        x = turned;
    }
    return sum;
}

/* A sine of period 1, out of two parabolas */
static float wave(float t) {
    t -= floorf(t);
    return t < 0.5f ? 16.0f * t * (0.5f - t) : -16.0f * (t - 0.5f) * (1.0f - t);
}

/* ------------------------------------------------------------------ the sky */

static vec sun;
static const vec SUNLIGHT = {5.2f, 2.75f, 1.15f};
static const float SUN_RADIUS = 0.021f; /* of its disc, in radians; larger than life: softer shadows */

/* The light that comes from direction d; the disc of the sun only where the path can count it. */
static vec sky(vec d, int with_sun) {
    float up = d.y > 0.0f ? d.y : 0.0f, facing = dot(d, sun);
    vec color = mix(v(1.00f, 0.44f, 0.20f), v(0.43f, 0.27f, 0.42f), smooth(0.0f, 0.24f, up));
    color = mix(color, v(0.06f, 0.11f, 0.33f), smooth(0.08f, 0.62f, up));
    float near = facing > 0.0f ? facing : 0.0f, n2 = near * near, n8 = n2 * n2 * n2 * n2, n64 = n8 * n8;
    n64 = n64 * n64, n64 = n64 * n64;
    float halo = n64 * n64, tight = halo * halo * halo * halo;
    color = mix(scale(color, 0.62f), color, clamp01(0.5f + 0.5f * facing));
    color = add(color, scale(v(0.85f, 0.33f, 0.08f), 0.42f * n8));
    color = add(color, scale(v(1.5f, 0.75f, 0.28f), 0.55f * n64 + 1.1f * halo));
    color = add(color, scale(v(2.6f, 1.5f, 0.6f), 0.8f * tight));
    if (d.y > 0.01f && with_sun) { /* scattered light does without the shape of the clouds */
        float reach = 1.0f / (d.y + 0.10f);
        float cover = smooth(0.46f, 0.74f, clouds_of(d.x * reach * 0.85f + 3.7f, d.z * reach * 2.1f + 1.2f));
        cover *= smooth(0.03f, 0.20f, d.y) * 0.85f;
        vec lit = add(v(0.34f, 0.22f, 0.30f), scale(v(1.35f, 0.52f, 0.26f), 0.18f + 0.95f * n8));
        color = mix(color, lit, cover);
    }
    if (with_sun && facing > cosf(SUN_RADIUS)) color = v(34.0f, 22.0f, 11.0f);
    float side = d.x / (d.z > 0.05f ? d.z : d.z < -0.05f ? -d.z : 0.05f);
    side = side > 9.0f ? 9.0f : side < -9.0f ? -9.0f : side;
    for (int layer = 0; layer < 3; layer++) { /* three ranges of hills, the nearest last */
        float phase = (float)layer * 3.7f, size = 1.0f - 0.28f * (float)layer;
        float ridge = 0.050f * size + 0.020f * wave(side * (0.31f + 0.2f * (float)layer) + phase)
            + 0.022f * noise(side * (2.5f + 2.0f * (float)layer) + 20.0f + phase, phase)
            + 0.004f * (float)layer * noise(side * 40.0f + 900.0f, phase);
        if (d.y < ridge) {
            vec far = mix(v(0.50f, 0.25f, 0.23f), v(1.25f, 0.62f, 0.27f), n64);
            color = mix(far, v(0.10f, 0.062f, 0.075f), 0.25f + 0.29f * (float)layer);
        }
    }
    return color;
}

/* ------------------------------------------------------------------ the field */

static const float FIELD_TOP = 0.72f, FIELD_END = 70.0f, CLODS = 0.036f;

static float clods(float x, float z) { return noise(x * 8.0f, z * 8.0f); }

/* The field without its clods: furrows and hills. `fade` is how much of furrows and clods is left so far away. */
static float furrows(float x, float z, float *fade) {
    float f = x * 1.18f + 0.16f * wave(z * 0.045f + 0.1f) + 0.25f, far = smooth(3.0f, 26.0f, z);
    f -= floorf(f + 0.5f);
    *fade = 1.0f / (1.0f + z * z * 0.0012f);
    float low = *fade * 0.21f * (1.0f - 4.0f * f * f) - 0.16f;
    if (far == 0.0f) return low;
    return low + far * (0.34f * wave(z * 0.034f + x * 0.011f + 0.62f) + 0.20f * wave(x * 0.037f + 0.3f) - 0.12f);
}

static float height(float x, float z) {
    float fade, low = furrows(x, z, &fade); /* with grains, too small for shapes but not for shades */
    return low + fade * CLODS * (clods(x, z) + 0.36f * noise(x * 23.0f, z * 21.0f) - 0.18f);
}

/* The distance at which the ray meets the field before `most`, or `most`. */
static float march(vec o, vec d, float most) {
    /* how fast a ray can come down on the steepest furrow; below zero it never does */
    float sink = fabsf(d.x) * 1.1f + fabsf(d.z) * 0.22f - d.y, t = 0.0f, before = 0.0f, gap_before = 0.0f;
    if (o.y > FIELD_TOP) {
        if (d.y >= 0.0f) return most;
        t = (FIELD_TOP - o.y) / d.y;
    }
    float end = d.y > 0.0f ? (FIELD_TOP - o.y) / d.y : FIELD_END;
    end = end > most ? most : end > FIELD_END ? FIELD_END : end;
    for (int step = 0; step < 160 && t < end; step++) {
        float x = o.x + d.x * t, z = o.z + d.z * t, fade, gap = o.y + d.y * t - furrows(x, z, &fade);
        float above = gap - fade * CLODS;
        if (above > 0.0f) { /* clods matter only below this, and their noise is the dear part */
            if (sink <= 0.0f) return most;
            gap_before = gap, before = t;
            t += above / sink + 0.003f + 0.003f * t;
            continue;
        }
        gap -= fade * CLODS * clods(x, z);
        if (gap < 0.0004f + 0.0002f * t) return gap < 0.0f && t > before
            ? before + (t - before) * gap_before / (gap_before - gap) : t;
        gap_before = gap, before = t;
        t += gap * 0.7f + 0.003f + 0.003f * t;
    }
    return most;
}

static vec field_normal(vec p, float t) {
    float e = 0.004f + 0.0012f * t;
    return unit(v(height(p.x - e, p.z) - height(p.x + e, p.z), 2.0f * e, height(p.x, p.z - e) - height(p.x, p.z + e)));
}

/* ------------------------------------------------------------------ things: ellipsoids, most of them spheres */

enum { FIELD, MATT, MIRROR, GLASS, LEAF };

typedef struct { vec center, a, b, c; float reach; int kind; vec color; } thing; /* a, b, c: axes over length squared */

#define THINGS_MAX 48
static thing things[THINGS_MAX];
static int count, sprout_count; /* the first sprout_count things lie in the sphere around sprout_at */
static vec sprout_at;
static const float SPROUT_REACH = 0.72f;

static int misses_sprout(vec o, vec d) {
    vec m = sub(o, sprout_at);
    float along = dot(m, d), off = dot(m, m) - along * along;
    return off > SPROUT_REACH * SPROUT_REACH || (along > 0.0f && dot(m, m) > SPROUT_REACH * SPROUT_REACH);
}

static void ellipsoid(vec at, vec a, vec b, vec c, int kind, vec color) {
    float la = dot(a, a), lb = dot(b, b), lc = dot(c, c), most = la > lb ? la : lb;
    things[count++] = (thing){at, scale(a, 1.0f / la), scale(b, 1.0f / lb), scale(c, 1.0f / lc),
                              most > lc ? most : lc, kind, color};
}

static void sphere(float x, float y, float z, float r, int kind, vec color) {
    ellipsoid(v(x, y, z), v(r, 0, 0), v(0, r, 0), v(0, 0, r), kind, color);
}

static void resting(float x, float z, float r, int kind, vec color) {
    sphere(x, height(x, z) + r * 0.93f, z, r, kind, color);
}

/* The distance to the thing from outside or inside, or `most`. */
static float meet(const thing *it, vec o, vec d, float most) {
    vec m = sub(o, it->center);
    float along = dot(m, d);
    if (dot(m, m) - along * along > it->reach) return most;
    vec p = v(dot(m, it->a), dot(m, it->b), dot(m, it->c)), q = v(dot(d, it->a), dot(d, it->b), dot(d, it->c));
    float a = dot(q, q), b = dot(p, q), c = dot(p, p) - 1.0f, root = b * b - a * c;
    if (root <= 0.0f) return most;
    root = sqrtf(root);
    float t = (-b - root) / a;
    if (t < 0.0008f) t = (-b + root) / a;
    return t > 0.0008f && t < most ? t : most;
}

static vec thing_normal(const thing *it, vec at) {
    vec m = sub(at, it->center);
    return unit(add(add(scale(it->a, dot(m, it->a)), scale(it->b, dot(m, it->b))), scale(it->c, dot(m, it->c))));
}

static void leaf(vec from, vec to, vec flat, float width, vec color) {
    vec along = scale(sub(to, from), 0.5f), side = scale(unit(cross(along, flat)), width);
    ellipsoid(add(from, along), along, side, scale(unit(cross(side, along)), 0.011f), LEAF, color);
}

static void build(void) {
    const vec green = {0.26f, 0.56f, 0.08f}, stem = {0.36f, 0.58f, 0.13f}, white = {1.0f, 1.0f, 1.0f};
    sun = unit(v(0.20f, 0.125f, 1.0f));
    float ground = height(-0.20f, 0.30f) - 0.02f;
    for (int i = 0; i < 7; i++) { /* the stem leans a little towards the light */
        float t = ((float)i + 0.5f) / 7.0f, r = 0.030f - 0.009f * t;
        ellipsoid(v(-0.20f + 0.10f * t * t, ground + 0.62f * t, 0.30f + 0.05f * t), v(r, -0.28f * r * t, 0),
                  v(0.032f * t, 0.115f, 0.009f), v(0, 0, r), MATT, stem);
    }
    vec tip = v(-0.10f, ground + 0.62f, 0.35f);
    leaf(tip, add(tip, v(-0.46f, 0.22f, -0.04f)), v(0.25f, 1.0f, -0.45f), 0.125f, green);
    leaf(tip, add(tip, v(0.42f, 0.30f, 0.02f)), v(-0.35f, 1.0f, -0.40f), 0.115f, green);
    leaf(tip, add(tip, v(0.03f, 0.23f, 0.03f)), v(0.1f, 0.2f, -1.0f), 0.040f, v(0.42f, 0.66f, 0.14f));
    sphere(tip.x - 0.25f, tip.y + 0.165f, tip.z - 0.035f, 0.026f, GLASS, white); /* dew */
    sphere(tip.x + 0.24f, tip.y + 0.215f, tip.z - 0.010f, 0.021f, GLASS, white);
    sprout_count = count;
    sprout_at = v(-0.10f, ground + 0.45f, 0.33f);
    resting(0.98f, 0.55f, 0.42f, GLASS, v(0.97f, 0.99f, 0.98f));
    resting(-1.28f, 1.30f, 0.46f, MIRROR, v(0.93f, 0.90f, 0.86f));
    resting(0.36f, -0.62f, 0.115f, GLASS, v(0.99f, 0.90f, 0.72f));
    resting(-0.82f, -0.35f, 0.15f, MATT, v(0.62f, 0.20f, 0.10f));
    resting(1.75f, 2.60f, 0.34f, MATT, v(0.22f, 0.34f, 0.42f));
    resting(0.20f, 3.40f, 0.30f, MIRROR, v(0.95f, 0.72f, 0.42f));
    resting(-2.75f, 4.20f, 0.40f, MATT, v(0.66f, 0.44f, 0.14f));
    resting(-0.42f, -0.95f, 0.075f, MIRROR, v(0.90f, 0.90f, 0.92f));
}

/* ------------------------------------------------------------------ light */

/* A direction about n, more often near it (cosine). */
static vec scatter(vec n) {
    float z = 2.0f * chance() - 1.0f, turn = 6.2831853f * chance(), r = sqrtf(1.0f - z * z);
    vec d = add(n, v(r * cosf(turn), r * sinf(turn), z));
    return dot(d, d) > 1e-6f ? unit(d) : n;
}

/* The part of the sun's light that reaches p from direction d; glass bends it to a bright spot, leaves let some through. */
static vec reaches(vec p, vec d) {
    vec light = {1.0f, 1.0f, 1.0f};
    for (int i = misses_sprout(p, d) ? sprout_count : 0; i < count; i++) {
        const thing *it = &things[i];
        float t = meet(it, p, d, 1e9f);
        if (t >= 1e9f) continue;
        if (it->kind == GLASS) {
            float straight = -dot(thing_normal(it, add(p, scale(d, t))), d);
            straight = straight < 0.0f ? 0.0f : straight;
            light = mul(light, scale(it->color, 0.12f + 2.6f * straight * straight * straight * straight * straight));
        } else if (it->kind == LEAF) {
            light = mul(light, scale(it->color, 0.35f));
        } else {
            return v(0, 0, 0);
        }
    }
    return march(p, d, 1e9f) < 1e9f ? v(0, 0, 0) : light;
}

static vec trace(vec o, vec d) {
    vec sum = {0, 0, 0}, left = {1, 1, 1};
    int sees_sun = 1;
    for (int bounce = 0; bounce < 8; bounce++) {
        float t = 1e9f;
        const thing *hit = 0;
        for (int i = misses_sprout(o, d) ? sprout_count : 0; i < count; i++) {
            float at = meet(&things[i], o, d, t);
            if (at < t) t = at, hit = &things[i];
        }
        float ground = march(o, d, t);
        if (ground < t) t = ground, hit = 0;
        if (t >= 1e9f) return add(sum, mul(left, sky(d, sees_sun)));

        vec p = add(o, scale(d, t)), n = hit ? thing_normal(hit, p) : field_normal(p, t), color;
        int kind = hit ? hit->kind : FIELD;
        if (kind == FIELD) {
            float tone = noise(p.x * 3.1f, p.z * 2.3f), fine = noise(p.x * 37.0f, p.z * 37.0f);
            color = scale(mix(v(0.24f, 0.135f, 0.075f), v(0.42f, 0.27f, 0.16f), tone), 0.55f + 0.75f * fine);
            float haze = 1.0f - 1.0f / (1.0f + t * t * 0.0011f); /* air between here and there glows */
            vec glow = sky(unit(v(d.x, 0.085f, d.z)), 0);
            sum = add(sum, mul(left, scale(glow, haze * 0.55f)));
            left = scale(left, 1.0f - haze * 0.8f);
        } else {
            color = hit->color;
        }

        if (kind == MIRROR) {
            left = mul(left, color);
            d = sub(d, scale(n, 2.0f * dot(d, n)));
            o = p, sees_sun = 1;
            continue;
        }
        if (kind == GLASS) {
            float facing = -dot(d, n), ratio = facing > 0.0f ? 1.0f / 1.5f : 1.5f;
            if (facing < 0.0f) n = scale(n, -1.0f), facing = -facing, left = mul(left, color);
            float inside = 1.0f - ratio * ratio * (1.0f - facing * facing), away = 1.0f - facing;
            float mirrored = inside <= 0.0f ? 1.0f : 0.04f + 0.96f * away * away * away * away * away;
            if (inside > 0.0f && ratio > 1.0f) {
                float out = 1.0f - sqrtf(inside); /* Schlick's formula wants the angle on the side of the air */
                mirrored = 0.04f + 0.96f * out * out * out * out * out;
            }
            if (chance() < mirrored) d = add(d, scale(n, 2.0f * facing));
            else d = unit(add(scale(d, ratio), scale(n, ratio * facing - sqrtf(inside))));
            o = p, sees_sun = 1;
            continue;
        }

        if (dot(n, d) > 0.0f) n = scale(n, -1.0f);
        int through = kind == LEAF && chance() < 0.5f; /* half of what a leaf scatters goes through it */
        if (through) n = scale(n, -1.0f), color = mul(color, v(1.5f, 1.3f, 0.5f));
        left = mul(left, color);
        o = add(p, scale(n, kind == LEAF ? 0.024f : 0.002f + 0.0004f * t));
        vec aim = unit(add(sun, scale(scatter(sun), SUN_RADIUS)));
        float slant = dot(n, aim);
        if (slant > 0.0f) sum = add(sum, mul(left, scale(mul(SUNLIGHT, reaches(o, aim)), slant * 0.62f)));
        float most = left.x > left.y ? left.x : left.y;
        if (bounce > 0) {
            if (chance() >= most) return sum;
            left = scale(left, 1.0f / most);
        }
        d = scatter(n), sees_sun = 0;
    }
    return sum;
}

static vec pixel(int x, int y, int width, int height_, int samples) {
    const vec eye = {0.02f, 0.74f, -3.15f}, target = {0.10f, 0.50f, 0.35f};
    vec ahead = unit(sub(target, eye)), right = unit(cross(v(0, 1, 0), ahead)), up = cross(ahead, right);
    float focus = sqrtf(dot(sub(target, eye), sub(target, eye))) + 0.02f;
    vec sum = {0, 0, 0};
    for (int s = 0; s < samples; s++) {
        state = hash((uint32_t)(y * width + x) ^ hash((uint32_t)s + 0x51ed270bu));
        float px = ((float)x + chance() - 0.5f * (float)width) / (float)height_;
        float py = ((float)y + chance() - 0.5f * (float)height_) / (float)height_;
        float r = 0.034f * sqrtf(chance()), turn = 6.2831853f * chance();
        vec lens = add(scale(right, r * cosf(turn)), scale(up, r * sinf(turn)));
        vec at = add(scale(ahead, focus), add(scale(right, px * 0.94f * focus), scale(up, (0.035f - py * 0.94f) * focus)));
        vec light = trace(add(eye, lens), unit(sub(at, lens)));
        float most = light.x > light.y ? light.x : light.y;
        sum = add(sum, most > 12.0f ? scale(light, 12.0f / most) : light); /* no lone bright specks */
    }
    sum = scale(sum, 1.0f / (float)samples);
    float dx = ((float)x / (float)width - 0.5f), dy = ((float)y / (float)height_ - 0.5f);
    return scale(sum, 1.0f - 0.55f * (dx * dx + dy * dy)); /* a lens is darker at its rim */
}

/* Filmic curve (Narkowicz's fit of ACES), then sRGB's gamma. */
static int tone(float light) {
    float x = light * 0.92f;
    x = clamp01(x * (2.51f * x + 0.03f) / (x * (2.43f * x + 0.59f) + 0.14f));
    return (int)(255.0f * (x <= 0.0031308f ? 12.92f * x : 1.055f * powf(x, 1.0f / 2.4f) - 0.055f) + 0.5f);
}

int main(int argc, char **argv) {
    int n[7];
    if (argc == 8) {
        for (int i = 0; i < 7; i++) n[i] = atoi(argv[i + 1]);
    } else {
        FILE *input = fopen("/in/input", "r");
        if (!input) input = stdin;
        for (int i = 0; i < 7; i++) {
            if (fscanf(input, "%d", &n[i]) != 1) {
                fputs("usage: pathtracer X0 Y0 X1 Y1 WIDTH HEIGHT SAMPLES (or these numbers in /in/input)\n", stderr);
                return 2;
            }
        }
    }
    int x0 = n[0], y0 = n[1], x1 = n[2], y1 = n[3], width = n[4], rows = n[5], samples = n[6];
    if (x0 < 0 || y0 < 0 || x0 >= x1 || y0 >= y1 || x1 > width || y1 > rows || width > 16384 || rows > 16384
        || samples < 1 || samples > 100000) {
        fputs("the tile must lie in the picture, of at most 16384 x 16384 pixels, with 1 to 100000 samples\n", stderr);
        return 2;
    }
    FILE *out = fopen("/out/tile.ppm", "wb");
    if (!out) {
        perror("/out/tile.ppm");
        return 1;
    }
    build();
    fprintf(out, "P6\n# tile %d %d of %d %d\n%d %d\n255\n", x0, y0, width, rows, x1 - x0, y1 - y0);
    for (int y = y0; y < y1; y++) {
        for (int x = x0; x < x1; x++) {
            vec c = pixel(x, y, width, rows, samples);
            fputc(tone(c.x), out), fputc(tone(c.y), out), fputc(tone(c.z), out);
        }
    }
    return fclose(out) == 0 ? 0 : 1;
}
