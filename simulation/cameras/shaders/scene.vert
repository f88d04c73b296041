#version 330
// Places a mesh (or the standing scene, with place 0) and hands on what the fragments need.
uniform mat4 clip_from_world;
uniform vec3 place;
uniform vec2 turn;  // cosine and sine of the yaw
uniform vec4 thing_paint;  // sRGB and lights; alpha below 0: the paint of the vertices
in vec3 position;
in vec4 normal_material;
in vec2 uv;
in vec4 paint;
out vec3 world;
out vec3 normal;
out vec2 surface;
flat out int material;
flat out vec4 painted;

void main() {
    vec2 xy = vec2(turn.x * position.x - turn.y * position.y,
                   turn.y * position.x + turn.x * position.y);
    world = vec3(xy, position.z) + place;
    vec3 n = normal_material.xyz * 2.0 - 1.0;
    normal = vec3(turn.x * n.x - turn.y * n.y, turn.y * n.x + turn.x * n.y, n.z);
    surface = uv;
    material = int(normal_material.w * 255.0 + 0.5);
    painted = thing_paint.a < 0.0 ? vec4(paint.rgb, 0.0) : thing_paint;
    gl_Position = clip_from_world * vec4(world, 1.0);
}
