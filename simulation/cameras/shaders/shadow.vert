#version 330
uniform mat4 clip_from_world;
uniform vec3 place;
uniform vec2 turn;
in vec3 position;

void main() {
    vec2 xy = vec2(turn.x * position.x - turn.y * position.y,
                   turn.y * position.x + turn.x * position.y);
    gl_Position = clip_from_world * vec4(vec3(xy, position.z) + place, 1.0);
}
