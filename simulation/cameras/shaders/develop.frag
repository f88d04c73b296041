#version 330
// The camera behind its lens: smoothed edges, motion blur, drops, glow, noise.
// BLUR, WET, GLOW and RAIN are defined where they are needed.
uniform sampler2D picture;
uniform sampler2D depths;
uniform sampler2D glow;
uniform sampler2D grain;  // Gaussian noise, one value per channel
uniform sampler2D drops;  // how drops on the lens shift the view (x, y), and falling rain (z)
uniform mat4 before_from_clip;  // clip coordinates when the shutter opened from those now
uniform vec2 grain_shift;
uniform vec2 grain_scale;
uniform vec2 drop_shift;
uniform vec4 rain_shift;  // of two layers of falling rain
uniform float rain;
uniform float lens_drops;
uniform float glow_share;
uniform float exposure;
uniform float horizon;  // row of the horizon, 0 at the top
uniform vec2 noise;  // of shot and of read-out
in vec2 at;
out vec4 colour;

// Edges smoothed along their direction, in the manner of FXAA (Lottes, 2009): samples of every
// pixel would cost llvmpipe three times the picture.
float luma(vec3 c) {
    return dot(c, vec3(0.3, 0.59, 0.11));
}

vec3 smoothed(vec2 p) {
    vec2 step = 1.0 / vec2(textureSize(picture, 0));
    vec3 middle = texture(picture, p).rgb;
    float m = luma(middle);
    float nw = luma(texture(picture, p + step * vec2(-0.5, -0.5)).rgb);
    float ne = luma(texture(picture, p + step * vec2(0.5, -0.5)).rgb);
    float sw = luma(texture(picture, p + step * vec2(-0.5, 0.5)).rgb);
    float se = luma(texture(picture, p + step * vec2(0.5, 0.5)).rgb);
    float low = min(m, min(min(nw, ne), min(sw, se)));
    float high = max(m, max(max(nw, ne), max(sw, se)));
    if (high - low < 0.02 + 0.06 * high) return middle;
    vec2 along = vec2((sw + se) - (nw + ne), (nw + sw) - (ne + se));
    along /= max(min(abs(along.x), abs(along.y)), 0.03 * (nw + ne + sw + se) + 1e-3);
    along = clamp(along, -6.0, 6.0) * step;
    vec3 near = 0.5 * (texture(picture, p - along / 6.0).rgb + texture(picture, p + along / 6.0).rgb);
    vec3 wide = 0.5 * near
        + 0.25 * (texture(picture, p - along * 0.5).rgb + texture(picture, p + along * 0.5).rgb);
    float w = luma(wide);
    return w < low || w > high ? near : wide;
}

void main() {
    vec2 p = at;
#ifdef RAIN
    p += (texture(drops, at + drop_shift).xy - 0.5) * 0.07 * lens_drops;
#endif
    vec3 c = smoothed(p);
#ifdef BLUR
    {
        vec4 now = vec4(vec3(p, texture(depths, p).r) * 2.0 - 1.0, 1.0);
        vec4 then = before_from_clip * now;
        vec2 way = (then.xy / then.w * 0.5 + 0.5 - p);
        way *= min(1.0, 0.06 / max(length(way), 1e-5));
        for (int k = 1; k < 6; ++k) c += texture(picture, p + way * (float(k) / 5.0)).rgb;
        c /= 6.0;
    }
#endif
#ifdef WET
    // A wet road mirrors what stands upright beyond it. How far beyond is not known here, so what
    // lies between the horizon and its mirror image is smeared, as ripples and grain do it too.
    float mirrors = texture(picture, p).a;
    if (mirrors > 0.02 && p.y > horizon) {
        vec3 seen = vec3(0.0);
        for (int k = 0; k < 6; ++k) {
            float up = horizon - (p.y - horizon) * (float(k) + 0.5) / 5.0;
            seen += texture(picture, vec2(p.x + 0.002 * float(k - 3), clamp(up, 0.0, 1.0))).rgb;
        }
        c = mix(c, seen / 6.0, mirrors);
    }
#endif
#ifdef GLOW
    c += texture(glow, p).rgb * glow_share;
#endif
#ifdef RAIN
    {
        float near = texture(drops, at * vec2(2.2, 0.7) + rain_shift.xy).z;
        float far = texture(drops, at * vec2(5.0, 1.7) + rain_shift.zw).z;
        c = mix(c, c * 0.55 + vec3(0.36), rain * clamp(near * 0.55 + far * 0.4, 0.0, 1.0));
    }
#endif
    vec2 middle = at - 0.5;
    c *= exposure * (1.0 - 0.2 * dot(middle, middle));
    vec3 g = texture(grain, at * grain_scale + grain_shift).rgb - 0.5;
    c += g * 6.0 * sqrt(noise.x * noise.x * c + noise.y * noise.y);
    colour = vec4(c, 1.0);
}
