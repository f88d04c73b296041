#version 330
// One direction of a Gaussian; the first pass keeps only what outshines white.
uniform sampler2D picture;
uniform vec2 stride;
uniform float threshold;
in vec2 at;
out vec4 colour;

void main() {
    const float weights[5] = float[](0.204, 0.180, 0.124, 0.066, 0.028);
    vec3 sum = vec3(0.0);
    for (int k = -4; k <= 4; ++k) {
        vec3 c = texture(picture, at + stride * float(k)).rgb;
        sum += max(c - threshold, 0.0) * (1.0 / (1.0 - threshold)) * weights[abs(k)];
    }
    colour = vec4(sum, 1.0);
}
