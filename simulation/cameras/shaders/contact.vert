#version 330
// A dark patch on the ground under a thing, where the sky does not reach.
uniform mat4 clip_from_world;
uniform vec3 eye;
in vec2 corner;
in vec4 patch_place;  // x, y, z, half length
in vec3 patch_turn;  // cosine, sine, half width
out vec2 across;
out vec2 half_size;
out float far;

void main() {
    half_size = vec2(patch_place.w, patch_turn.z);
    across = corner * (half_size + 0.45);
    vec2 xy = vec2(patch_turn.x * across.x - patch_turn.y * across.y,
                   patch_turn.y * across.x + patch_turn.x * across.y);
    vec3 world = patch_place.xyz + vec3(xy, 0.03);
    far = length(world - eye);
    gl_Position = clip_from_world * vec4(world, 1.0);
}
