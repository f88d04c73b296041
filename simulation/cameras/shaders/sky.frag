#version 330
uniform sampler2D sky;
uniform mat3 world_from_pixel;
in vec2 at;
out vec4 colour;

// A camera's curve with a soft shoulder, its pale shadows and its gamma; done here, for pictures of
// eight bits are read three times as fast afterwards.
vec3 developed(vec3 c) {
    c = 1.0 - exp(-1.25 * max(c, 0.0));
    c = mix(c, vec3(dot(c, vec3(0.3, 0.59, 0.11))), 0.12);
    return sqrt(c * 0.985 + 0.002);
}

void main() {
    vec3 d = normalize(world_from_pixel * vec3(at, 1.0));
    d.z = max(d.z, 0.0);
    vec2 p = d.xy / (abs(d.x) + abs(d.y) + d.z);
    colour = vec4(developed(texture(sky, vec2(p.x + p.y, p.x - p.y) * 0.5 + 0.5).rgb), 0.0);
}
