#version 330
uniform float darkest;
uniform float extinction;
in vec2 across;
in vec2 half_size;
in float far;
out vec4 colour;

void main() {
    vec2 beyond = max(abs(across) - half_size + 0.25, 0.0) / 0.7;
    float shade = darkest * exp(-extinction * far) * (1.0 - smoothstep(0.0, 1.0, length(beyond)));
    colour = vec4(0.0, 0.0, 0.0, shade);
}
