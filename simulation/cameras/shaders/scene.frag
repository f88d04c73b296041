#version 330
// Light of one surface point: sun and sky by day, lamps and headlights by night, then the air.
// SUN, NIGHT and WET are defined where they are needed: llvmpipe runs both sides of a branch.
const int MATERIALS = 64;
uniform vec4 material_colour[MATERIALS];  // linear RGB, gloss
uniform vec4 material_look[MATERIALS];  // texture layer, 1 / tile in metres, light kind, flags
uniform sampler2DArray textures;
uniform sampler2D sky;
uniform sampler2DShadow shadows;
uniform sampler2D lamp_light;
uniform mat4 shadow_from_world;
uniform vec3 eye;
uniform vec3 to_sun;
uniform vec3 sun;
uniform vec3 sky_light;
uniform vec3 bounce;
uniform vec3 air;
uniform float extinction;
uniform float wetness;
uniform float blotch_layer;
uniform vec3 lamp_map;  // its low corner x y, and 1 / edge in metres
uniform vec4 headlights;  // place x y of the ego's lamps, and the direction they shine
uniform float headlight;  // how strong
in vec3 world;
in vec3 normal;
in vec2 surface;
flat in int material;
flat in vec4 painted;
out vec4 colour;

vec3 sky_towards(vec3 d) {
    d.z = max(d.z, 0.0);
    vec2 p = d.xy / (abs(d.x) + abs(d.y) + d.z);
    return texture(sky, vec2(p.x + p.y, p.x - p.y) * 0.5 + 0.5).rgb;
}

float hash(vec2 p) {
    return fract(sin(dot(p, vec2(12.9898, 78.233))) * 43758.5453);
}

// The beam of the ego's two headlights as one: flat at the top, bright in the middle.
float in_headlights(vec3 at) {
    vec2 away = at.xy - headlights.xy;
    float along = dot(away, headlights.zw);
    if (along < 0.5) return 0.0;
    float aside = abs(away.x * headlights.w - away.y * headlights.z);
    float wide = 1.0 - smoothstep(0.10, 0.55, aside / (along + 1.5));
    float rise = (at.z - 0.65) / along;
    float low = 1.0 - smoothstep(-0.005, 0.03, rise);
    low = max(low, 0.06 * (1.0 - smoothstep(0.0, 0.2, rise)));
    return headlight * wide * low / (1.0 + along * along / 150.0);
}

// A camera's curve with a soft shoulder, its pale shadows and its gamma; done here, for pictures of
// eight bits are read three times as fast afterwards.
vec3 developed(vec3 c) {
    c = 1.0 - exp(-1.25 * max(c, 0.0));
    c = mix(c, vec3(dot(c, vec3(0.3, 0.59, 0.11))), 0.12);
    return sqrt(c * 0.985 + 0.002);
}

void main() {
    vec4 own = material_colour[material];
    vec4 look = material_look[material];
    int flags = int(look.w);
    vec3 n = normalize(normal);
    vec3 sight = world - eye;
    float far = length(sight);
    sight /= far;
    if (dot(n, sight) > 0.0) n = -n;

    vec4 texel = look.x > 0.5 ? texture(textures, vec3(surface * look.y, look.x))
                              : vec4(0.5, 0.5, 0.5, 1.0);
    vec3 base = (flags & 1) != 0 ? painted.rgb * painted.rgb : own.rgb;
    base *= texel.rgb * 2.0;
    bool level = (flags & 4) != 0;
    if (level) base *= texture(textures, vec3(world.xy * 0.04, blotch_layer)).rgb * 2.0;
#ifdef WET
    float wet = level ? wetness : 0.0;
    base *= 1.0 - 0.45 * wet;
#endif

    vec3 light = mix(bounce, sky_light, n.z * 0.5 + 0.5);
    // What stands on the ground keeps the sky from its foot.
    light *= level ? 1.0 : 0.62 + 0.38 * clamp(world.z * 0.7, 0.0, 1.0);
#ifdef SUN
    float facing = dot(n, to_sun);
    float lit = 0.0;
    if (facing > 0.0) {
        vec4 p = shadow_from_world * vec4(world + n * 0.08 + to_sun * 0.05, 1.0);
        lit = 1.0;
        if (all(lessThan(abs(p.xy - 0.5), vec2(0.499)))) lit = texture(shadows, p.xyz);
        light += sun * facing * lit;
    }
#endif
#ifdef NIGHT
    {
        vec3 lamps = texture(lamp_light, (world.xy - lamp_map.xy) * lamp_map.z).rgb;
        float under = 1.0 - 0.8 * smoothstep(4.5, 9.0, world.z);
        light += lamps * under * (0.4 + 0.6 * max(n.z, 0.0));
        vec3 back = normalize(vec3(headlights.xy, 0.7) - world);
        float beam = in_headlights(world);
        light += vec3(1.0, 0.95, 0.85) * beam * max(dot(n, back), level ? 0.16 : 0.0);
        if ((flags & 2) != 0) light += vec3(14.0, 13.5, 12.5) * beam;
    }
#endif
    vec3 sent = base * light;

    float gloss = own.a * texel.a;
#ifdef WET
    gloss = max(gloss, wet * 0.75 * (0.35 + 0.65 * smoothstep(0.42, 0.6, texel.g)));
#endif
    if (gloss > 0.04) {
        vec3 mirrored = reflect(sight, n);
        float grazing = 1.0 - max(-dot(sight, n), 0.0);
        float fresnel = 0.05 + 0.95 * grazing * grazing * grazing * grazing * grazing;
        vec3 seen = sky_towards(mirrored);
        // Below the horizon the ground is mirrored; walls opposite darken what is low.
        float open = smoothstep(-0.05, 0.35, mirrored.z);
        seen = mix(bounce * 0.3, seen, level ? 0.35 + 0.65 * open : open);
#ifdef SUN
        float glint = dot(mirrored, to_sun);
        if (glint > 0.95) seen += sun * lit * 9.0 * pow(glint, 180.0);
#endif
#ifdef NIGHT
        if (level)
            seen += texture(lamp_light, (world.xy + mirrored.xy * 6.0 - lamp_map.xy) * lamp_map.z).rgb * 0.35;
#endif
        float share = gloss * fresnel;
        sent = mix(sent, seen, clamp(share, 0.0, 1.0));
    }

    int kind = int(look.z);
    int on = int(painted.a * 255.0 + 0.5);
#ifdef NIGHT
    const float HEADLIGHT = 9.0, TAILLIGHT = 1.0;
#else
    const float HEADLIGHT = 1.6, TAILLIGHT = 0.6;
#endif
    if (kind == 1 && (on & 1) != 0)
        sent += vec3(1.0, 0.96, 0.88) * HEADLIGHT * (0.35 + 0.65 * max(-dot(n, sight), 0.0));
    if (kind == 2) {
        if ((on & 2) != 0) sent += vec3(2.2, 0.06, 0.03);
        else if ((on & 1) != 0) sent += vec3(0.75, 0.02, 0.012) * TAILLIGHT;
    }
#ifdef NIGHT
    if (kind == 4) sent += vec3(7.0, 5.4, 3.4);
    if (kind == 3) {
        vec2 pane = floor(surface / 1.5) + floor(world.xy / 9.0);
        float chance = hash(pane);
        if (chance > 0.74)
            sent += mix(vec3(0.5, 0.36, 0.16), vec3(0.42, 0.43, 0.4), step(0.9, chance))
                * (0.35 + chance * 0.6) * texel.a;
    }
#endif

    float through = exp(-extinction * far);
    float mirrors = 0.0;
#ifdef WET
    // How much of what stands behind is mirrored here; `develop.frag` knows what that is.
    if (level) {
        float flat_on = 1.0 - clamp(-sight.z, 0.0, 1.0);
        mirrors = wet * through * (0.10 + 0.75 * flat_on * flat_on * flat_on * flat_on)
            * (0.4 + 0.6 * smoothstep(0.42, 0.6, texel.g));
    }
#endif
    colour = vec4(developed(sent * through + air * (1.0 - through)), mirrors);
}
